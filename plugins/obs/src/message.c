#include "message.h"

#include <stdio.h>
#include <string.h>

static struct wire_header begin(enum wire_kind kind)
{
	struct wire_header header;
	memset(&header, 0, sizeof(header));
	header.magic = WIRE_MAGIC;
	header.version = WIRE_VERSION;
	header.kind = (uint16_t)kind;
	header.scale = 1;
	return header;
}

struct wire_header message_hello(void)
{
	struct wire_header header = begin(WIRE_HELLO);
	header.body_bytes = WIRE_TOKEN_BYTES;
	return header;
}

struct wire_header message_frame(uint64_t sequence, uint64_t captured_ns, uint32_t width_px,
				 uint32_t height_px, const struct wishes *wishes)
{
	struct wire_header header = begin(WIRE_FRAME);
	header.sequence = sequence;
	header.captured_ns = captured_ns;
	header.width_px = width_px;
	header.height_px = height_px;
	header.body_bytes = width_px * height_px * 4;
	header.scale = wishes->scale;
	header.faces = wishes->faces;
	header.strength = wishes->strength;
	memcpy(header.preset, wishes->preset, sizeof(header.preset));
	header.preset[sizeof(header.preset) - 1] = 0;
	return header;
}

static bool check_result(const struct wire_header *answer, const struct wire_header *question,
			 char *why, size_t why_bytes)
{
	uint32_t width_px = question->width_px * question->scale;
	uint32_t height_px = question->height_px * question->scale;
	if (answer->sequence != question->sequence ||
	    answer->captured_ns != question->captured_ns || answer->scale != question->scale)
		snprintf(why, why_bytes, "a result of another frame than the one sent");
	else if (answer->width_px != width_px || answer->height_px != height_px)
		snprintf(why, why_bytes, "a result of %ux%u, expected %ux%u", answer->width_px,
			 answer->height_px, width_px, height_px);
	else if (answer->body_bytes != width_px * height_px * 4)
		snprintf(why, why_bytes, "%u bytes for a picture of %ux%u", answer->body_bytes,
			 width_px, height_px);
	else if (!memchr(answer->device, 0, sizeof(answer->device)))
		snprintf(why, why_bytes, "the name of a device without an end");
	else
		return true;
	return false;
}

bool message_check(const struct wire_header *answer, const struct wire_header *question, char *why,
		   size_t why_bytes)
{
	enum wire_kind expected = question->kind == WIRE_HELLO ? WIRE_WELCOME : WIRE_RESULT;
	if (answer->magic != WIRE_MAGIC)
		snprintf(why, why_bytes, "what listens there is no CAGFace engine");
	else if (answer->version != WIRE_VERSION)
		snprintf(
			why, why_bytes,
			"the engine speaks version %u, this filter %u: install both of one version",
			answer->version, WIRE_VERSION);
	else if (answer->kind == WIRE_REFUSAL && answer->body_bytes <= WIRE_MAX_TEXT_BYTES)
		return true;
	else if (answer->kind != expected)
		snprintf(why, why_bytes, "message %u, expected %d", answer->kind, (int)expected);
	else if (expected == WIRE_RESULT)
		return check_result(answer, question, why, why_bytes);
	else if (answer->body_bytes != 0 || !memchr(answer->device, 0, sizeof(answer->device)))
		snprintf(why, why_bytes, "a welcome with a body, or a device without an end");
	else
		return true;
	return false;
}

void message_one_line(char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < ' ' || *text == 127)
			*text = ' ';
}
