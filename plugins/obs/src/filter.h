/* The filter "CAGFace Enhance" as OBS sees it: settings, sizes, and what is drawn when. */
#ifndef CAGFACE_FILTER_H
#define CAGFACE_FILTER_H

#include <obs-module.h>

#include "link.h"

struct picture_size {
	uint32_t width_px, height_px; /* of the target; 0 while it has none */
	uint32_t wished_scale;
	uint32_t scale; /* as wished, or the largest that the wire takes; 0: none */
};

struct filter;
struct link *filter_link(struct filter *filter);
struct picture_size filter_size(struct filter *filter);

extern struct obs_source_info cagface_enhance;

#endif
