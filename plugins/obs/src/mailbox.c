#include "mailbox.h"

#include <stdlib.h>
#include <string.h>

void mailbox_open(struct mailbox *box)
{
	memset(box, 0, sizeof(*box));
	box->filling = &box->parcels[0];
	box->waiting = &box->parcels[1];
	box->taken = &box->parcels[2];
}

void mailbox_close(struct mailbox *box)
{
	for (size_t i = 0; i < 3; i++) {
		free(box->parcels[i].bgra);
		free(box->parcels[i].original);
	}
}

bool mailbox_room(struct mailbox *box, size_t bytes)
{
	struct parcel *parcel = box->filling;
	if (parcel->room_bytes >= bytes)
		return true;
	free(parcel->bgra);
	parcel->bgra = malloc(bytes);
	parcel->room_bytes = parcel->bgra ? bytes : 0;
	return parcel->bgra != NULL;
}

void mailbox_give(struct mailbox *box)
{
	struct parcel *given = box->filling;
	box->filling = box->waiting;
	box->waiting = given;
	box->replaced += box->full;
	box->full = true;
}

struct parcel *mailbox_take(struct mailbox *box)
{
	if (!box->full)
		return NULL;
	struct parcel *taken = box->waiting;
	box->waiting = box->taken;
	box->taken = taken;
	box->full = false;
	return taken;
}
