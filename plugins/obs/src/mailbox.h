/* Pictures handed between two threads through one slot: the newest wins, nobody waits.
 *
 * Three buffers go round: the giver fills one, one waits in the slot, the taker works on one.
 */
#ifndef CAGFACE_MAILBOX_H
#define CAGFACE_MAILBOX_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "message.h"

struct parcel {
	struct wire_header header; /* the picture's: a FRAME's or a RESULT's */
	uint64_t sent_ns;          /* a result: when its frame went out, and when it was back */
	uint64_t received_ns;
	uint8_t *bgra;
	size_t room_bytes;
	uint8_t *original; /* a result: the picture that it was made of */
	size_t original_bytes;
};

struct mailbox {
	struct parcel *filling, *waiting, *taken;
	bool full;
	uint64_t replaced; /* given, and overtaken by a newer one before it was taken */
	struct parcel parcels[3];
};

void mailbox_open(struct mailbox *box);
void mailbox_close(struct mailbox *box);

/* Room for `bytes` in `filling`; false where there is no memory for it. Giver only. */
bool mailbox_room(struct mailbox *box, size_t bytes);

/* These two under the lock that both threads use. What was taken is good until the next take. */
void mailbox_give(struct mailbox *box);
struct parcel *mailbox_take(struct mailbox *box);

#endif
