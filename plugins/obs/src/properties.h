/* The filter's settings as its dialog shows them, and the status line that lives while it is open.
 */
#ifndef CAGFACE_PROPERTIES_H
#define CAGFACE_PROPERTIES_H

#include "filter.h"

#define SETTING_PRESET "preset"
#define SETTING_STRENGTH "strength"
#define SETTING_SCALE "scale"
#define SETTING_FACES "faces"
#define SETTING_SPLIT "split_percent"
#define SETTING_HOLD "hold_ms"
#define SETTING_ADDRESS "address"
#define SETTING_START "start_engine"

/* Counts the open dialogs of one filter; outlives the filter while one of them does. */
struct dialogs;
struct dialogs *dialogs_new(void);
void dialogs_release(struct dialogs *dialogs);

void properties_defaults(obs_data_t *settings);
obs_properties_t *properties_make(struct filter *filter, struct dialogs *dialogs);

/* To be called each frame: a dialog that is open gets the status line anew when it changed, at most
 * every two seconds, and not while its user is changing something. */
void properties_refresh(struct filter *filter, struct dialogs *dialogs, obs_source_t *source,
			float seconds);
void properties_touched(struct dialogs *dialogs);

#endif
