/* Headers of wire.h made, and those of the engine checked before anything of them is used. */
#ifndef CAGFACE_MESSAGE_H
#define CAGFACE_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>

#include "wire.h"

/* What the filter's user wishes for a frame. */
struct wishes {
	uint32_t scale;
	uint32_t faces;
	float strength;
	char preset[16];
};

struct wire_header message_hello(void);
struct wire_header message_frame(uint64_t sequence, uint64_t captured_ns, uint32_t width_px,
				 uint32_t height_px, const struct wishes *wishes);

/* Whether `answer` may follow `question`; if not, `why` says in one line what is wrong. */
bool message_check(const struct wire_header *answer, const struct wire_header *question, char *why,
		   size_t why_bytes);

/* Make `text` one line: whatever is no printable character becomes a space. */
void message_one_line(char *text);

#endif
