/* A filter's connection to the engine: frames in, results out, on a thread of its own.
 *
 * One thread (the graphics thread) gives frames and takes results; neither ever waits for the
 * engine. The worker connects, connects again, starts the engine where it may, and checks all that
 * the engine says. No libobs here: tests/obs/link_program.c runs it alone.
 */
#ifndef CAGFACE_LINK_H
#define CAGFACE_LINK_H

#include "mailbox.h"

enum link_state {
	LINK_BEGINNING,
	LINK_ABSENT,        /* nobody listens at the address */
	LINK_STARTING,      /* nobody yet: the filter has just started the engine */
	LINK_NOT_INSTALLED, /* nobody, and no `obs-engine` file that says how to start one */
	LINK_CANNOT_START,  /* nobody, and what the file names cannot be run */
	LINK_BAD_ADDRESS,
	LINK_NO_TOKEN,
	LINK_CONNECTED,
	LINK_REFUSED, /* `text` is the engine's own line */
	LINK_LOST,    /* `text` says what was wrong with what it sent, or is empty: it was silent */
};

struct link_status {
	enum link_state state;
	char text[WIRE_MAX_TEXT_BYTES + 1];
	char device[40];
	float fps, frame_ms;
	uint32_t face_count;
	uint64_t sent, received, replaced, failures;
};

struct link;
typedef void (*link_log)(void *data, const char *line);

/* NULL where there is no memory or thread. `log` is called from the worker. */
struct link *link_open(const char *address, bool may_start, link_log log, void *log_data);

/* Leave the engine, whatever it does, within NET_SLICE_MS or so. */
void link_close(struct link *link);

/* Another address ends the connection. */
void link_set(struct link *link, const char *address, bool may_start);

bool link_connected(struct link *link);
void link_status(struct link *link, struct link_status *status);

/* Room for a frame's pixels, rows without padding; NULL where there is no memory. */
uint8_t *link_room(struct link *link, uint32_t width_px, uint32_t height_px);

/* Send what was filled in, unless a newer one comes before the engine is free. */
void link_give(struct link *link, uint32_t width_px, uint32_t height_px, uint64_t captured_ns,
	       const struct wishes *wishes);

/* The newest result since the last call, or NULL; good until the next call. */
const struct parcel *link_take(struct link *link);

#endif
