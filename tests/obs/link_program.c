/* The filter's link without OBS: gives frames as the graphics thread would, and says what happens.
 *
 * link_program ADDRESS START FRAMES WIDTH HEIGHT SCALE
 * START is 1 where it may start the engine. It prints what the link logs, then after FRAMES right
 * results, or at the first refusal or loss, or after 20 s, one line: results, wrong pixels, the
 * counters, and how long it took to close.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "link.h"
#include "net.h"

static void print_line(void *data, const char *line)
{
	(void)data;
	puts(line);
	fflush(stdout);
}

static void fill(uint8_t *room, uint32_t width, uint32_t height, uint8_t first)
{
	for (size_t i = 0; i < (size_t)width * height * 4; i++)
		room[i] = (uint8_t)(first + i * 7);
}

/* The picture's first byte comes back in captured_ns. */
static unsigned count_wrong(const struct parcel *result, uint32_t width, uint32_t scale)
{
	unsigned wrong = 0;
	uint8_t first = (uint8_t)result->header.captured_ns;
	uint32_t height = result->header.height_px / scale;
	for (size_t i = 0; i < (size_t)width * height * 4; i++)
		wrong += result->original[i] != (uint8_t)(first + i * 7);
	for (uint32_t y = 0; y < result->header.height_px; y++)
		for (uint32_t x = 0; x < result->header.width_px; x++)
			for (uint32_t c = 0; c < 4; c++) {
				size_t from = ((size_t)(y / scale) * width + x / scale) * 4 + c;
				uint8_t sent = (uint8_t)(first + from * 7);
				uint8_t expected = c < 3 ? (uint8_t)(255 - sent) : sent;
				size_t at = ((size_t)y * result->header.width_px + x) * 4 + c;
				wrong += result->bgra[at] != expected;
			}
	return wrong;
}

int main(int count, char **words)
{
	if (count != 7 || !net_start())
		return 2;
	unsigned wanted = (unsigned)atoi(words[3]), results = 0, wrong = 0;
	uint32_t width = (uint32_t)atoi(words[4]), height = (uint32_t)atoi(words[5]);
	struct wishes wishes = {(uint32_t)atoi(words[6]), WIRE_FACES_ALL, 1.0f, "pico"};
	struct link *link = link_open(words[1], words[2][0] == '1', print_line, NULL);
	if (!link)
		return 2;
	struct link_status status = {0};
	uint64_t end_ns = net_now_ns() + 20000000000u;
	for (uint64_t frame = 1; results < wanted && net_now_ns() < end_ns; frame++) {
		struct timespec pause = {0, 2000000};
		nanosleep(&pause, NULL);
		link_status(link, &status);
		if (status.state == LINK_LOST || status.state == LINK_REFUSED ||
		    status.state == LINK_BAD_ADDRESS || status.state == LINK_NO_TOKEN)
			break;
		if (!link_connected(link))
			continue;
		const struct parcel *result = link_take(link);
		if (result) {
			results++;
			wrong += count_wrong(result, width, wishes.scale);
		}
		fill(link_room(link, width, height), width, height, (uint8_t)frame);
		link_give(link, width, height, frame, &wishes);
	}
	link_status(link, &status);
	uint64_t closing_ns = net_now_ns();
	link_close(link);
	double closing_ms = (double)(net_now_ns() - closing_ns) / 1e6;
	printf("results %u wrong %u replaced %d failures %d device '%s' closed_ms %.1f\n", results,
	       wrong, status.replaced > 0, (int)status.failures, status.device, closing_ms);
	return 0;
}
