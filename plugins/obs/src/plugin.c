/* The module that OBS loads: it brings one filter. */
#include <obs-module.h>

#include "filter.h"
#include "net.h"

OBS_DECLARE_MODULE()
OBS_MODULE_USE_DEFAULT_LOCALE("cagface-enhance", "en-US")

MODULE_EXPORT const char *obs_module_name(void)
{
	return "CAGFace Enhance";
}

MODULE_EXPORT const char *obs_module_description(void)
{
	return obs_module_text("Description");
}

bool obs_module_load(void)
{
	if (!net_start())
		return false;
	obs_register_source(&cagface_enhance);
	return true;
}
