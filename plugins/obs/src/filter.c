#include "filter.h"

#include "net.h"
#include "properties.h"
#include "screen.h"

#define LONGEST_TICK_S 0.1f /* what of a hiccup of OBS counts against the engine */
#define SLACK_S 0.1f        /* from a result on its way to the next one on its way */

struct filter {
	obs_source_t *source;
	struct link *link;
	struct dialogs *dialogs;
	atomic_bool ticked;
	atomic_uint out_width_px, out_height_px; /* read by any thread, as the tick left them */
	/* OBS ticks on the graphics thread, and renders there and wherever a picture of a source is
	 * asked for. Both hold this for all that follows. */
	pthread_mutex_t lock;
	struct screen screen;
	/* Settings. */
	struct wishes wishes;
	float hold_s, split;
	/* Decided once per frame, in the tick. */
	struct picture_size size;
	bool connected, enhanced;
	const struct parcel *fresh;                 /* a result that is not on the GPU yet */
	uint32_t result_width_px, result_height_px; /* of the frame that the result was made of */
	float overdue_s;                            /* since the last result */
	uint64_t shown_since_ns;
	/* What has happened in this frame. */
	bool rendered, captured;
};

struct link *filter_link(struct filter *filter)
{
	return filter->link;
}

struct picture_size filter_size(struct filter *filter)
{
	pthread_mutex_lock(&filter->lock);
	struct picture_size size = filter->size;
	pthread_mutex_unlock(&filter->lock);
	return size;
}

static struct picture_size measure(const struct filter *filter)
{
	obs_source_t *target = obs_filter_get_target(filter->source);
	struct picture_size size = {0};
	if (!target)
		return size;
	size.width_px = obs_source_get_base_width(target);
	size.height_px = obs_source_get_base_height(target);
	size.wished_scale = size.scale = filter->wishes.scale;
	while (size.scale && (size.width_px * size.scale > WIRE_MAX_SIDE_PX ||
			      size.height_px * size.scale > WIRE_MAX_SIDE_PX))
		size.scale /= 2;
	return size;
}

/* A target too large for the wire at any scale is passed on as it is. */
static uint32_t drawn_scale(const struct picture_size *size)
{
	return size->scale ? size->scale : 1;
}

static const char *get_name(void *type_data)
{
	UNUSED_PARAMETER(type_data);
	return obs_module_text("Name");
}

static void log_line(void *data, const char *line)
{
	const struct filter *filter = data;
	blog(LOG_INFO, "[cagface-enhance] '%s': %s", obs_source_get_name(filter->source), line);
}

static void update(void *data, obs_data_t *settings)
{
	struct filter *filter = data;
	struct wishes *wishes = &filter->wishes;
	pthread_mutex_lock(&filter->lock);
	long long scale = obs_data_get_int(settings, SETTING_SCALE);
	wishes->scale = scale == 2 || scale == 4 ? (uint32_t)scale : 1;
	wishes->faces = obs_data_get_int(settings, SETTING_FACES) == WIRE_FACES_LARGEST;
	double strength = obs_data_get_double(settings, SETTING_STRENGTH);
	wishes->strength = strength >= 0.0 && strength <= 1.0 ? (float)strength : 1.0f;
	memset(wishes->preset, 0, sizeof(wishes->preset));
	snprintf(wishes->preset, sizeof(wishes->preset), "%s",
		 obs_data_get_string(settings, SETTING_PRESET));
	filter->split = (float)obs_data_get_int(settings, SETTING_SPLIT) / 100.0f;
	filter->hold_s = (float)obs_data_get_int(settings, SETTING_HOLD) / 1000.0f;
	pthread_mutex_unlock(&filter->lock);
	if (filter->link)
		link_set(filter->link, obs_data_get_string(settings, SETTING_ADDRESS),
			 obs_data_get_bool(settings, SETTING_START));
	properties_touched(filter->dialogs);
}

static void destroy(void *data)
{
	struct filter *filter = data;
	if (filter->link)
		link_close(filter->link);
	obs_enter_graphics();
	screen_close(&filter->screen);
	obs_leave_graphics();
	dialogs_release(filter->dialogs);
	pthread_mutex_destroy(&filter->lock);
	bfree(filter);
}

static void *create(obs_data_t *settings, obs_source_t *source)
{
	struct filter *filter = bzalloc(sizeof(*filter));
	filter->source = source;
	pthread_mutex_init(&filter->lock, NULL);
	filter->dialogs = dialogs_new();
	update(filter, settings);
	obs_enter_graphics();
	bool ready = screen_open(&filter->screen);
	obs_leave_graphics();
	if (ready)
		filter->link =
			link_open(obs_data_get_string(settings, SETTING_ADDRESS),
				  obs_data_get_bool(settings, SETTING_START), log_line, filter);
	if (filter->link)
		return filter;
	blog(LOG_ERROR, "[cagface-enhance] no graphics or no thread: install the plugin anew");
	destroy(filter);
	return NULL;
}

static uint32_t get_width(void *data)
{
	struct filter *filter = data;
	if (atomic_load(&filter->ticked))
		return atomic_load(&filter->out_width_px);
	struct picture_size size = measure(filter);
	return size.width_px * drawn_scale(&size);
}

static uint32_t get_height(void *data)
{
	struct filter *filter = data;
	if (atomic_load(&filter->ticked))
		return atomic_load(&filter->out_height_px);
	struct picture_size size = measure(filter);
	return size.height_px * drawn_scale(&size);
}

/* A result that took longer than the hold time is not shown: an engine that is always slower shows
 * the original, steadily, and one that is always faster the enhanced picture, steadily. */
static bool in_time(const struct filter *filter, const struct parcel *result)
{
	float took_s = (float)(result->received_ns - result->sent_ns) / 1e9f;
	return took_s <= filter->hold_s && result->header.captured_ns >= filter->shown_since_ns;
}

static void decide(struct filter *filter, float seconds)
{
	filter->size = measure(filter);
	atomic_store(&filter->out_width_px, filter->size.width_px * drawn_scale(&filter->size));
	atomic_store(&filter->out_height_px, filter->size.height_px * drawn_scale(&filter->size));
	atomic_store(&filter->ticked, true);
	filter->connected = link_connected(filter->link) && filter->size.scale;
	filter->overdue_s += seconds < LONGEST_TICK_S ? seconds : LONGEST_TICK_S;
	if (!filter->rendered) { /* hidden: what comes back may be another picture */
		filter->enhanced = false;
		filter->shown_since_ns = net_now_ns();
		screen_forget(&filter->screen);
	}
	filter->rendered = filter->captured = false;

	const struct parcel *result = link_take(filter->link);
	filter->fresh = result && in_time(filter, result) ? result : NULL;
	if (filter->fresh) {
		const struct wire_header *header = &result->header;
		filter->result_width_px = header->width_px / header->scale;
		filter->result_height_px = header->height_px / header->scale;
		filter->overdue_s = 0.0f;
		filter->enhanced = true;
	}
	if (!filter->connected || filter->overdue_s > filter->hold_s + SLACK_S ||
	    filter->result_width_px != filter->size.width_px ||
	    filter->result_height_px != filter->size.height_px)
		filter->enhanced = false;
}

static void tick(void *data, float seconds)
{
	struct filter *filter = data;
	pthread_mutex_lock(&filter->lock);
	decide(filter, seconds);
	pthread_mutex_unlock(&filter->lock);
	properties_refresh(filter, filter->dialogs, filter->source, seconds);
}

static void send_frame(struct filter *filter)
{
	struct screen *screen = &filter->screen;
	uint64_t captured_ns;
	uint32_t row_bytes, width_px = screen->width_px, height_px = screen->height_px;
	const uint8_t *rows = screen_read(screen, &row_bytes, &captured_ns);
	if (!rows)
		return;
	uint8_t *room = link_room(filter->link, width_px, height_px);
	for (uint32_t y = 0; room && y < height_px; y++)
		memcpy(room + (size_t)y * width_px * 4, rows + (size_t)y * row_bytes,
		       (size_t)width_px * 4);
	screen_unread(screen);
	if (!room)
		return;
	struct wishes wishes = filter->wishes;
	wishes.scale = filter->size.scale;
	link_give(filter->link, width_px, height_px, captured_ns, &wishes);
}

static void draw(struct filter *filter)
{
	obs_source_t *target = obs_filter_get_target(filter->source);
	uint32_t width_px = target ? obs_source_get_base_width(target) : 0;
	uint32_t height_px = target ? obs_source_get_base_height(target) : 0;
	uint32_t out_width_px = get_width(filter), out_height_px = get_height(filter);
	filter->rendered = true;
	if (!width_px || !height_px || !out_width_px || !out_height_px) {
		obs_source_skip_video_filter(filter->source);
		return;
	}
	if (filter->connected && !filter->captured) {
		/* A target that changed its size since the tick is sent with the next frame. */
		filter->captured = screen_capture(&filter->screen, filter->source, width_px,
						  height_px, net_now_ns());
		if (filter->captured && width_px == filter->size.width_px &&
		    height_px == filter->size.height_px)
			send_frame(filter);
	}
	if (!filter->connected || !filter->captured) {
		screen_pass_through(filter->source, (float)out_width_px / (float)width_px,
				    (float)out_height_px / (float)height_px);
		return;
	}
	if (filter->fresh)
		filter->enhanced =
			screen_upload(&filter->screen, filter->fresh, filter->split > 0.0f) &&
			filter->enhanced;
	filter->fresh = NULL;
	screen_draw(&filter->screen, filter->enhanced, filter->split, out_width_px, out_height_px);
}

static void render(void *data, gs_effect_t *effect)
{
	UNUSED_PARAMETER(effect);
	struct filter *filter = data;
	pthread_mutex_lock(&filter->lock);
	draw(filter);
	pthread_mutex_unlock(&filter->lock);
}

static obs_properties_t *get_properties(void *data)
{
	struct filter *filter = data;
	return properties_make(filter, filter ? filter->dialogs : NULL);
}

struct obs_source_info cagface_enhance = {
	.id = "cagface_enhance",
	.type = OBS_SOURCE_TYPE_FILTER,
	.output_flags = OBS_SOURCE_VIDEO | OBS_SOURCE_SRGB,
	.get_name = get_name,
	.create = create,
	.destroy = destroy,
	.get_width = get_width,
	.get_height = get_height,
	.get_defaults = properties_defaults,
	.get_properties = get_properties,
	.update = update,
	.video_tick = tick,
	.video_render = render,
};
