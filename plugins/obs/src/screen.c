#include "screen.h"

bool screen_open(struct screen *screen)
{
	char *path = obs_module_file("enhance.effect");
	screen->effect = path ? gs_effect_create_from_file(path, NULL) : NULL;
	bfree(path);
	screen->original = gs_texrender_create(GS_BGRA, GS_ZS_NONE);
	screen->straight = gs_texrender_create(GS_BGRA, GS_ZS_NONE);
	return screen->effect && screen->original && screen->straight;
}

void screen_close(struct screen *screen)
{
	gs_stagesurface_destroy(screen->staged[0].surface);
	gs_stagesurface_destroy(screen->staged[1].surface);
	gs_texture_destroy(screen->result);
	gs_texture_destroy(screen->before);
	gs_texrender_destroy(screen->straight);
	gs_texrender_destroy(screen->original);
	gs_effect_destroy(screen->effect);
}

static void set_image(struct screen *screen, gs_texture_t *texture, bool linear)
{
	gs_eparam_t *image = gs_effect_get_param_by_name(screen->effect, "image");
	if (linear)
		gs_effect_set_texture_srgb(image, texture);
	else
		gs_effect_set_texture(image, texture);
}

static bool draw_target(struct screen *screen, obs_source_t *filter, uint32_t width_px,
			uint32_t height_px)
{
	obs_source_t *target = obs_filter_get_target(filter);
	obs_source_t *parent = obs_filter_get_parent(filter);
	uint32_t flags = obs_source_get_output_flags(parent);
	gs_texrender_reset(screen->original);
	if (!gs_texrender_begin(screen->original, width_px, height_px))
		return false;
	struct vec4 clear;
	vec4_zero(&clear);
	gs_clear(GS_CLEAR_COLOR, &clear, 0.0f, 0);
	gs_ortho(0.0f, (float)width_px, 0.0f, (float)height_px, -100.0f, 100.0f);
	bool linear = gs_set_linear_srgb(true);
	gs_blend_state_push();
	gs_blend_function_separate(GS_BLEND_SRCALPHA, GS_BLEND_INVSRCALPHA, GS_BLEND_ONE,
				   GS_BLEND_INVSRCALPHA);
	if (target == parent && !(flags & (OBS_SOURCE_CUSTOM_DRAW | OBS_SOURCE_ASYNC)))
		obs_source_default_render(target);
	else
		obs_source_video_render(target);
	gs_blend_state_pop();
	gs_set_linear_srgb(linear);
	gs_texrender_end(screen->original);
	return true;
}

static bool straighten(struct screen *screen)
{
	gs_texrender_reset(screen->straight);
	if (!gs_texrender_begin(screen->straight, screen->width_px, screen->height_px))
		return false;
	gs_ortho(0.0f, (float)screen->width_px, 0.0f, (float)screen->height_px, -100.0f, 100.0f);
	bool encoded = gs_framebuffer_srgb_enabled();
	gs_enable_framebuffer_srgb(true);
	gs_blend_state_push();
	gs_enable_blending(false);
	set_image(screen, gs_texrender_get_texture(screen->original), true);
	while (gs_effect_loop(screen->effect, "Straighten"))
		gs_draw_sprite(gs_texrender_get_texture(screen->original), 0, 0, 0);
	gs_blend_state_pop();
	gs_enable_framebuffer_srgb(encoded);
	gs_texrender_end(screen->straight);
	return true;
}

static void resize(struct screen *screen, uint32_t width_px, uint32_t height_px)
{
	if (screen->width_px == width_px && screen->height_px == height_px)
		return;
	for (unsigned i = 0; i < 2; i++) {
		gs_stagesurface_destroy(screen->staged[i].surface);
		screen->staged[i].surface = NULL;
	}
	screen_forget(screen);
	screen->width_px = width_px;
	screen->height_px = height_px;
}

bool screen_capture(struct screen *screen, obs_source_t *filter, uint32_t width_px,
		    uint32_t height_px, uint64_t now_ns)
{
	resize(screen, width_px, height_px);
	screen->original_is_there = draw_target(screen, filter, width_px, height_px);
	if (!screen->original_is_there)
		return false;
	struct staged *staged = &screen->staged[screen->next];
	if (!staged->surface)
		staged->surface = gs_stagesurface_create(width_px, height_px, GS_BGRA);
	if (staged->surface && straighten(screen)) {
		gs_stage_texture(staged->surface, gs_texrender_get_texture(screen->straight));
		staged->captured_ns = now_ns;
	}
	screen->next ^= 1;
	return true;
}

const uint8_t *screen_read(struct screen *screen, uint32_t *row_bytes, uint64_t *captured_ns)
{
	struct staged *staged = &screen->staged[screen->next];
	uint8_t *rows;
	*captured_ns = staged->captured_ns;
	if (!staged->captured_ns || !gs_stagesurface_map(staged->surface, &rows, row_bytes))
		return NULL;
	return rows;
}

void screen_unread(struct screen *screen)
{
	struct staged *staged = &screen->staged[screen->next];
	gs_stagesurface_unmap(staged->surface);
	staged->captured_ns = 0;
}

void screen_forget(struct screen *screen)
{
	screen->staged[0].captured_ns = 0;
	screen->staged[1].captured_ns = 0;
}

static void upload(gs_texture_t **texture, const uint8_t *bgra, uint32_t width_px,
		   uint32_t height_px)
{
	if (*texture && (gs_texture_get_width(*texture) != width_px ||
			 gs_texture_get_height(*texture) != height_px)) {
		gs_texture_destroy(*texture);
		*texture = NULL;
	}
	if (!*texture)
		*texture = gs_texture_create(width_px, height_px, GS_BGRA, 1, NULL, GS_DYNAMIC);
	if (*texture)
		gs_texture_set_image(*texture, bgra, width_px * 4, false);
}

bool screen_upload(struct screen *screen, const struct parcel *result, bool before)
{
	const struct wire_header *header = &result->header;
	upload(&screen->result, result->bgra, header->width_px, header->height_px);
	if (before) {
		upload(&screen->before, result->original, header->width_px / header->scale,
		       header->height_px / header->scale);
	} else {
		gs_texture_destroy(screen->before);
		screen->before = NULL;
	}
	return screen->result != NULL;
}

/* The part of `texture` from `from` to `to` (0..1 of its width), at the same part of the output. */
static void draw_part(struct screen *screen, gs_texture_t *texture, const char *technique,
		      float from, float to, uint32_t width_px, uint32_t height_px)
{
	uint32_t texture_width = gs_texture_get_width(texture);
	uint32_t texture_height = gs_texture_get_height(texture);
	uint32_t left = (uint32_t)((float)texture_width * from + 0.5f);
	uint32_t right = (uint32_t)((float)texture_width * to + 0.5f);
	float scale_x = (float)width_px / (float)texture_width;
	float scale_y = (float)height_px / (float)texture_height;
	if (right <= left)
		return;
	gs_matrix_push();
	gs_matrix_scale3f(scale_x, scale_y, 1.0f);
	gs_matrix_translate3f((float)left, 0.0f, 0.0f);
	set_image(screen, texture, gs_get_linear_srgb());
	while (gs_effect_loop(screen->effect, technique))
		gs_draw_sprite_subregion(texture, 0, left, 0, right - left, texture_height);
	gs_matrix_pop();
}

static void draw_line(float split, uint32_t width_px, uint32_t height_px)
{
	uint32_t thick_px = width_px / 320 + 1;
	struct vec4 white;
	vec4_set(&white, 1.0f, 1.0f, 1.0f, 1.0f);
	gs_effect_t *solid = obs_get_base_effect(OBS_EFFECT_SOLID);
	gs_effect_set_vec4(gs_effect_get_param_by_name(solid, "color"), &white);
	gs_matrix_push();
	gs_matrix_translate3f((float)width_px * split - (float)thick_px / 2, 0.0f, 0.0f);
	while (gs_effect_loop(solid, "Solid"))
		gs_draw_sprite(NULL, 0, thick_px, height_px);
	gs_matrix_pop();
}

void screen_draw(struct screen *screen, bool enhanced, float split, uint32_t width_px,
		 uint32_t height_px)
{
	gs_texture_t *original = gs_texrender_get_texture(screen->original);
	bool encoded = gs_framebuffer_srgb_enabled();
	gs_enable_framebuffer_srgb(gs_get_linear_srgb());
	gs_blend_state_push();
	gs_blend_function(GS_BLEND_ONE, GS_BLEND_INVSRCALPHA);
	if (!enhanced)
		draw_part(screen, original, "Copy", 0.0f, 1.0f, width_px, height_px);
	if (enhanced) {
		if (screen->before)
			draw_part(screen, screen->before, "Premultiply", 0.0f, split, width_px,
				  height_px);
		else
			draw_part(screen, original, "Copy", 0.0f, split, width_px, height_px);
		draw_part(screen, screen->result, "Premultiply", split, 1.0f, width_px, height_px);
		if (split > 0.0f && split < 1.0f)
			draw_line(split, width_px, height_px);
	}
	gs_blend_state_pop();
	gs_enable_framebuffer_srgb(encoded);
}

void screen_pass_through(obs_source_t *filter, float scale_x, float scale_y)
{
	gs_matrix_push();
	gs_matrix_scale3f(scale_x, scale_y, 1.0f);
	obs_source_skip_video_filter(filter);
	gs_matrix_pop();
}
