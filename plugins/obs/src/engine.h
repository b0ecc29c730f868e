/* The engine as a program on this machine: its token, and its start. No call here waits for it.
 *
 * Both files lie in one folder: `cagface-live` in $XDG_DATA_HOME or ~/.local/share on Linux, in
 * ~/Library/Application Support on macOS, in %LOCALAPPDATA% on Windows.
 *   obs-token    64 hexadecimal digits, made by the engine
 *   obs-engine   one line, the absolute path of the `cagface` command, by `cagface obs install`,
 *                or by `cagface serve` where that has not been
 *   obs-engine.log    what an engine that the filter started had to say (not on Windows)
 */
#ifndef CAGFACE_ENGINE_H
#define CAGFACE_ENGINE_H

#include <stdbool.h>
#include <stddef.h>

#include "net.h"
#include "wire.h"

/* The token's digits, without an end; false where there is no such file or it holds no token. */
bool engine_token(char token[WIRE_TOKEN_BYTES]);

enum engine_start {
	ENGINE_STARTED,
	ENGINE_STARTING, /* the last one was started a moment ago */
	ENGINE_NOT_INSTALLED,
	ENGINE_FAILED, /* there is a path, and it cannot be run */
};

/* Start `cagface serve` at this address, detached: 20 s after the last start at the earliest,
 * then 40, 80 s, until engine_is_there. All filters of a process count together. */
enum engine_start engine_start(const struct net_address *address);
void engine_is_there(void);

#endif
