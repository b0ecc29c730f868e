/* What the filter does on the GPU: the source's picture down to memory, a result up, both drawn.
 *
 * Everything here belongs to the graphics thread, inside the graphics context.
 */
#ifndef CAGFACE_SCREEN_H
#define CAGFACE_SCREEN_H

#include <obs-module.h>

#include "mailbox.h"

struct staged {
	gs_stagesurf_t *surface;
	uint64_t captured_ns; /* 0: there is nothing in it */
};

struct screen {
	gs_effect_t *effect;
	gs_texrender_t *original; /* premultiplied alpha, as OBS draws */
	gs_texrender_t *straight; /* as the engine has it */
	struct staged staged[2];
	unsigned next;
	gs_texture_t *result;
	gs_texture_t *before; /* what the result was made of; NULL where nobody wants to see it */
	uint32_t width_px, height_px; /* of the original */
	bool original_is_there;
};

bool screen_open(struct screen *screen);
void screen_close(struct screen *screen);

/* Draw the filter's target into `original` and send it on its way to memory. */
bool screen_capture(struct screen *screen, obs_source_t *filter, uint32_t width_px,
		    uint32_t height_px, uint64_t now_ns);

/* The picture captured the frame before, which the GPU has long finished: its first row and the
 * bytes from row to row, or NULL. To be ended with screen_unread. */
const uint8_t *screen_read(struct screen *screen, uint32_t *row_bytes, uint64_t *captured_ns);
void screen_unread(struct screen *screen);

/* Pictures staged before now are not to be read any more. */
void screen_forget(struct screen *screen);

/* A result and, where it is wanted, what it was made of: rows without padding, straight alpha. */
bool screen_upload(struct screen *screen, const struct parcel *result, bool before);

/* Draw at `width_px` x `height_px`: left of `split` (0..1) what the result was made of, so that
 * both are of one moment, and the result right of it. Without `enhanced` it is the original. */
void screen_draw(struct screen *screen, bool enhanced, float split, uint32_t width_px,
		 uint32_t height_px);

/* Draw the filter's target as if there were no filter, only scaled. */
void screen_pass_through(obs_source_t *filter, float scale_x, float scale_y);

#endif
