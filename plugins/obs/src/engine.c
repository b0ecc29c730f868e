#ifdef __linux__
#define _GNU_SOURCE /* posix_spawn_file_actions_addclosefrom_np */
#endif

#include "engine.h"

#include <ctype.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef _WIN32
#define SEPARATOR "\\"
#else
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>
#define SEPARATOR "/"
extern char **environ;
#endif

#define PATH_BYTES 4096
#define FIRST_PAUSE_S 20 /* a busy machine needs more than 10 s to load an engine */
#define LONGEST_PAUSE_S 80

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t next_start_ns;
static uint64_t pause_s = FIRST_PAUSE_S;

static bool path_of(const char *file, char path[PATH_BYTES])
{
	const char *root, *below;
#if defined(_WIN32)
	root = getenv("LOCALAPPDATA");
	below = "";
#elif defined(__APPLE__)
	root = getenv("HOME");
	below = "/Library/Application Support";
#else
	root = getenv("XDG_DATA_HOME");
	below = "";
	if (!root || root[0] != '/') {
		root = getenv("HOME");
		below = "/.local/share";
	}
#endif
	if (!root || !*root)
		return false;
	int length = snprintf(path, PATH_BYTES, "%s%s" SEPARATOR "cagface-live" SEPARATOR "%s",
			      root, below, file);
	return length > 0 && length < PATH_BYTES;
}

static bool first_line(const char *file, char line[PATH_BYTES])
{
	char path[PATH_BYTES];
	if (!path_of(file, path))
		return false;
	FILE *opened = fopen(path, "r");
	if (!opened)
		return false;
	bool got = fgets(line, PATH_BYTES, opened) != NULL;
	fclose(opened);
	if (got)
		line[strcspn(line, "\r\n")] = 0;
	return got && *line;
}

bool engine_token(char token[WIRE_TOKEN_BYTES])
{
	char line[PATH_BYTES];
	if (!first_line("obs-token", line) || strlen(line) != WIRE_TOKEN_BYTES)
		return false;
	for (size_t i = 0; i < WIRE_TOKEN_BYTES; i++)
		if (!isxdigit((unsigned char)line[i]))
			return false;
	memcpy(token, line, WIRE_TOKEN_BYTES);
	return true;
}

#ifdef _WIN32
static bool start_detached(const char *program, const char *address)
{
	wchar_t wide[PATH_BYTES], line[PATH_BYTES + 128];
	if (!MultiByteToWideChar(CP_UTF8, 0, program, -1, wide, PATH_BYTES))
		return false;
	swprintf(line, PATH_BYTES + 128, L"\"%ls\" serve --address %hs --idle-seconds 60", wide,
		 address);
	STARTUPINFOW startup = {.cb = sizeof(startup)};
	PROCESS_INFORMATION process;
	if (!CreateProcessW(wide, line, NULL, NULL, FALSE,
			    CREATE_NO_WINDOW | CREATE_NEW_PROCESS_GROUP, NULL, NULL, &startup,
			    &process))
		return false;
	CloseHandle(process.hThread);
	CloseHandle(process.hProcess);
	return true;
}
#else
/* A shell starts it and ends at once, so that the engine is nobody's child and leaves no zombie. */
static bool start_detached(const char *program, const char *address)
{
	char log[PATH_BYTES];
	if (access(program, X_OK) != 0 || !path_of("obs-engine.log", log))
		return false;
	if (!next_start_ns)
		unlink(log); /* it holds what was said since this OBS began */
	char *words[] = {"sh",
			 "-c",
			 "\"$0\" serve --address \"$1\" --idle-seconds 60 &",
			 (char *)program,
			 (char *)address,
			 NULL};
	posix_spawn_file_actions_t files;
	posix_spawnattr_t how;
	sigset_t none, all;
	sigemptyset(&none);
	sigfillset(&all);
	sigdelset(&all, SIGKILL);
	sigdelset(&all, SIGSTOP);
	short flags = POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF;
	posix_spawn_file_actions_init(&files);
	posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&files, 1, log, O_WRONLY | O_CREAT | O_APPEND, 0600);
	posix_spawn_file_actions_adddup2(&files, 1, 2);
#ifdef __APPLE__
	flags |= POSIX_SPAWN_CLOEXEC_DEFAULT;
#else
	posix_spawn_file_actions_addclosefrom_np(&files, 3);
#endif
#ifdef POSIX_SPAWN_SETSID
	flags |= POSIX_SPAWN_SETSID;
#endif
	posix_spawnattr_init(&how);
	posix_spawnattr_setsigmask(&how, &none);
	posix_spawnattr_setsigdefault(&how, &all);
	posix_spawnattr_setflags(&how, flags);
	pid_t shell;
	bool done = posix_spawn(&shell, "/bin/sh", &files, &how, words, environ) == 0;
	posix_spawnattr_destroy(&how);
	posix_spawn_file_actions_destroy(&files);
	if (done)
		waitpid(shell, NULL, 0);
	return done;
}
#endif

enum engine_start engine_start(const struct net_address *address)
{
	char program[PATH_BYTES], where[32];
	enum engine_start outcome = ENGINE_STARTING;
	uint64_t now = net_now_ns();
	pthread_mutex_lock(&lock);
	if (now >= next_start_ns) {
		if (!first_line("obs-engine", program)) {
			outcome = ENGINE_NOT_INSTALLED;
		} else {
			snprintf(where, sizeof(where), "%s:%u", address->host, address->port);
			outcome = start_detached(program, where) ? ENGINE_STARTED : ENGINE_FAILED;
			next_start_ns = now + pause_s * 1000000000u;
			pause_s = pause_s < LONGEST_PAUSE_S ? pause_s * 2 : LONGEST_PAUSE_S;
		}
	}
	pthread_mutex_unlock(&lock);
	return outcome;
}

void engine_is_there(void)
{
	pthread_mutex_lock(&lock);
	pause_s = FIRST_PAUSE_S;
	pthread_mutex_unlock(&lock);
}
