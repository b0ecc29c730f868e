#include "properties.h"

#include <stdatomic.h>

#include <util/dstr.h>

#define REFRESH_S 2.0f
#define TEXT(name) obs_module_text(name)

struct dialogs {
	atomic_int owners; /* the filter, and every dialog that is open */
	float wait_s;      /* the graphics thread's, as all below */
	char *shown;
};

struct dialogs *dialogs_new(void)
{
	struct dialogs *dialogs = bzalloc(sizeof(*dialogs));
	atomic_init(&dialogs->owners, 1);
	return dialogs;
}

void dialogs_release(struct dialogs *dialogs)
{
	if (atomic_fetch_sub(&dialogs->owners, 1) != 1)
		return;
	bfree(dialogs->shown);
	bfree(dialogs);
}

static void dialog_closed(void *data)
{
	dialogs_release(data);
}

void properties_defaults(obs_data_t *settings)
{
	char address[32];
	snprintf(address, sizeof(address), "127.0.0.1:%u", WIRE_PORT);
	obs_data_set_default_string(settings, SETTING_PRESET, "auto");
	obs_data_set_default_double(settings, SETTING_STRENGTH, 1.0);
	obs_data_set_default_int(settings, SETTING_SCALE, 1);
	obs_data_set_default_int(settings, SETTING_FACES, WIRE_FACES_ALL);
	obs_data_set_default_int(settings, SETTING_SPLIT, 0);
	obs_data_set_default_int(settings, SETTING_HOLD, 500);
	obs_data_set_default_string(settings, SETTING_ADDRESS, address);
	obs_data_set_default_bool(settings, SETTING_START, true);
}

/* A translation has {1} and {2} where these belong. */
static void fill(struct dstr *line, const char *name, const char *first, const char *second)
{
	dstr_copy(line, TEXT(name));
	dstr_replace(line, "{1}", first);
	dstr_replace(line, "{2}", second);
}

static void describe_work(struct dstr *line, const struct link_status *status)
{
	struct dstr number = {0};
	if (!status->received) {
		fill(line, "Status.Connected", status->device, "");
		return;
	}
	dstr_copy(line, TEXT("Status.Working"));
	dstr_printf(&number, "%.0f", status->fps);
	dstr_replace(line, "{fps}", number.array);
	dstr_printf(&number, "%.0f", status->frame_ms);
	dstr_replace(line, "{ms}", number.array);
	dstr_printf(&number, "%u", status->face_count);
	dstr_replace(line, "{faces}", number.array);
	dstr_replace(line, "{device}", status->device);
	dstr_free(&number);
}

static void describe(struct dstr *line, struct filter *filter)
{
	static const char *const names[] = {
		[LINK_BEGINNING] = "Status.Beginning",
		[LINK_ABSENT] = "Status.Absent",
		[LINK_STARTING] = "Status.Starting",
		[LINK_NOT_INSTALLED] = "Status.NotInstalled",
		[LINK_CANNOT_START] = "Status.CannotStart",
		[LINK_BAD_ADDRESS] = "Status.BadAddress",
		[LINK_NO_TOKEN] = "Status.NoToken",
		[LINK_REFUSED] = "Status.Refused",
		[LINK_LOST] = "Status.Lost",
	};
	struct link_status status;
	struct picture_size size = filter_size(filter);
	link_status(filter_link(filter), &status);
	if (status.state == LINK_CONNECTED)
		describe_work(line, &status);
	else if (status.state == LINK_LOST && !*status.text)
		fill(line, "Status.Silent", "", "");
	else
		fill(line, names[status.state], status.text, "");
	if (size.width_px && size.scale < size.wished_scale) {
		struct dstr note = {0};
		char scale[16], side[16];
		snprintf(scale, sizeof(scale), "%u", size.scale);
		snprintf(side, sizeof(side), "%u", WIRE_MAX_SIDE_PX);
		fill(&note, size.scale ? "Status.Smaller" : "Status.TooLarge", scale, side);
		dstr_cat(line, "\n");
		dstr_cat_dstr(line, &note);
		dstr_free(&note);
	}
}

static void add_choices(obs_properties_t *all)
{
	static const char *const presets[] = {"auto", "pico", "nano", "small"};
	obs_property_t *list = obs_properties_add_list(
		all, SETTING_PRESET, TEXT("Preset"), OBS_COMBO_TYPE_LIST, OBS_COMBO_FORMAT_STRING);
	for (size_t i = 0; i < sizeof(presets) / sizeof(*presets); i++) {
		char name[32];
		snprintf(name, sizeof(name), "Preset.%s", presets[i]);
		obs_property_list_add_string(list, TEXT(name), presets[i]);
	}
	obs_property_set_long_description(list, TEXT("Preset.Help"));
	obs_properties_add_float_slider(all, SETTING_STRENGTH, TEXT("Strength"), 0.0, 1.0, 0.01);
	list = obs_properties_add_list(all, SETTING_SCALE, TEXT("Scale"), OBS_COMBO_TYPE_LIST,
				       OBS_COMBO_FORMAT_INT);
	obs_property_list_add_int(list, TEXT("Scale.1"), 1);
	obs_property_list_add_int(list, TEXT("Scale.2"), 2);
	obs_property_list_add_int(list, TEXT("Scale.4"), 4);
	list = obs_properties_add_list(all, SETTING_FACES, TEXT("Faces"), OBS_COMBO_TYPE_LIST,
				       OBS_COMBO_FORMAT_INT);
	obs_property_list_add_int(list, TEXT("Faces.All"), WIRE_FACES_ALL);
	obs_property_list_add_int(list, TEXT("Faces.Largest"), WIRE_FACES_LARGEST);
}

obs_properties_t *properties_make(struct filter *filter, struct dialogs *dialogs)
{
	obs_properties_t *all = obs_properties_create();
	obs_property_t *one;
	if (filter) {
		struct dstr line = {0};
		describe(&line, filter);
		one = obs_properties_add_text(all, "status", line.array, OBS_TEXT_INFO);
		obs_property_text_set_info_word_wrap(one, true);
		dstr_free(&line);
		atomic_fetch_add(&dialogs->owners, 1);
		obs_properties_set_param(all, dialogs, dialog_closed);
	}
	add_choices(all);
	one = obs_properties_add_int_slider(all, SETTING_SPLIT, TEXT("Split"), 0, 100, 1);
	obs_property_int_set_suffix(one, " %");
	obs_property_set_long_description(one, TEXT("Split.Help"));
	one = obs_properties_add_int_slider(all, SETTING_HOLD, TEXT("Hold"), 100, 5000, 50);
	obs_property_int_set_suffix(one, " ms");
	obs_property_set_long_description(one, TEXT("Hold.Help"));
	one = obs_properties_add_text(all, SETTING_ADDRESS, TEXT("Address"), OBS_TEXT_DEFAULT);
	obs_property_set_long_description(one, TEXT("Address.Help"));
	obs_properties_add_bool(all, SETTING_START, TEXT("Start"));
	return all;
}

void properties_touched(struct dialogs *dialogs)
{
	dialogs->wait_s = REFRESH_S;
}

void properties_refresh(struct filter *filter, struct dialogs *dialogs, obs_source_t *source,
			float seconds)
{
	dialogs->wait_s -= seconds;
	if (dialogs->wait_s > 0 || atomic_load(&dialogs->owners) == 1)
		return;
	struct dstr line = {0};
	describe(&line, filter);
	if (!dialogs->shown || strcmp(line.array, dialogs->shown) != 0) {
		bfree(dialogs->shown);
		dialogs->shown = line.array;
		dialogs->wait_s = REFRESH_S;
		obs_source_update_properties(source);
	} else {
		dstr_free(&line);
	}
}
