#include "link.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine.h"

#define CONNECT_MS 1000
#define ANSWER_MS 2000
#define RETRY_MS 250
#define REFUSED_MS 1000 /* what was refused is not asked for again at once */
#define LOG_LINES 5     /* at once; then one more every LOG_PAUSE_S */
#define LOG_PAUSE_S 30

struct link {
	pthread_t worker;
	pthread_mutex_t lock;
	pthread_cond_t news;
	atomic_bool leave; /* the conversation: the address changed, or the filter goes */
	bool closing;
	net_socket socket; /* the worker's, for others to shut down */
	char address[64];
	bool may_start;
	struct mailbox frames, results;
	struct link_status status;
	uint64_t sequence; /* the worker's */
	link_log log;
	void *log_data;
	unsigned log_lines;
	uint64_t log_ns;
};

/* Lines that come and go with a flapping engine must not fill OBS's log. */
static void say(struct link *link, const char *form, ...)
{
	uint64_t now = net_now_ns();
	uint64_t earned = (now - link->log_ns) / (LOG_PAUSE_S * 1000000000ull);
	if (earned) {
		uint64_t lines = link->log_lines + earned;
		link->log_lines = lines < LOG_LINES ? (unsigned)lines : LOG_LINES;
		link->log_ns = now;
	}
	if (!link->log_lines)
		return;
	link->log_lines--;
	char line[WIRE_MAX_TEXT_BYTES + 128];
	va_list values;
	va_start(values, form);
	vsnprintf(line, sizeof(line), form, values);
	va_end(values);
	link->log(link->log_data, line);
}

static void become(struct link *link, enum link_state state, const char *text)
{
	static const char *const words[] = {
		[LINK_ABSENT] = "no engine listens at",
		[LINK_STARTING] = "the engine is starting at",
		[LINK_NOT_INSTALLED] = "no engine, and none is installed (cagface obs install), at",
		[LINK_CANNOT_START] = "the installed engine cannot be started for",
		[LINK_BAD_ADDRESS] = "not an address on this machine:",
		[LINK_NO_TOKEN] = "no token to show to the engine at",
		[LINK_CONNECTED] = "connected to the engine at",
		[LINK_REFUSED] = "refused by the engine at",
		[LINK_LOST] = "lost the engine at",
	};
	char address[sizeof(link->address)];
	pthread_mutex_lock(&link->lock);
	bool news = link->status.state != state || strcmp(link->status.text, text) != 0;
	link->status.state = state;
	snprintf(link->status.text, sizeof(link->status.text), "%s", text);
	link->status.failures += state == LINK_REFUSED || state == LINK_LOST;
	strcpy(address, link->address);
	pthread_mutex_unlock(&link->lock);
	if (news && !atomic_load(&link->leave)) /* who leaves has lost nothing */
		say(link, "%s %s%s%s", words[state], address, *text ? ": " : "", text);
}

/* False once the conversation is to end. */
static bool wait_ms(struct link *link, int ms)
{
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += (long)(ms % 1000) * 1000000;
	until.tv_sec += ms / 1000 + until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	pthread_cond_timedwait(&link->news, &link->lock, &until);
	return !atomic_load(&link->leave);
}

/* Receive what follows `question`; the state says why if it is not what was asked for. */
static bool answered(struct link *link, const struct wire_header *question,
		     struct wire_header *answer)
{
	char why[WIRE_MAX_TEXT_BYTES + 1] = "";
	if (!net_receive(link->socket, answer, sizeof(*answer), ANSWER_MS, &link->leave)) {
		become(link, LINK_LOST, "");
		return false;
	}
	if (!message_check(answer, question, why, sizeof(why))) {
		become(link, LINK_LOST, why);
		return false;
	}
	if (answer->kind != WIRE_REFUSAL)
		return true;
	if (net_receive(link->socket, why, answer->body_bytes, ANSWER_MS, &link->leave)) {
		message_one_line(why);
		become(link, LINK_REFUSED, why);
	} else {
		become(link, LINK_LOST, "");
	}
	return false;
}

static bool greeted(struct link *link)
{
	char token[WIRE_TOKEN_BYTES];
	struct wire_header welcome, hello = message_hello();
	if (!engine_token(token)) {
		become(link, LINK_NO_TOKEN, "");
		return false;
	}
	if (!net_send(link->socket, &hello, sizeof(hello), ANSWER_MS, &link->leave) ||
	    !net_send(link->socket, token, sizeof(token), ANSWER_MS, &link->leave)) {
		become(link, LINK_LOST, "");
		return false;
	}
	if (!answered(link, &hello, &welcome))
		return false;
	pthread_mutex_lock(&link->lock);
	mailbox_take(&link->frames); /* what waits there is of the connection before */
	memcpy(link->status.device, welcome.device, sizeof(link->status.device));
	link->status.received = 0;
	pthread_mutex_unlock(&link->lock);
	return true;
}

/* The newest frame, as soon as there is one; NULL when the conversation is over. */
static struct parcel *next_frame(struct link *link)
{
	struct parcel *frame = NULL;
	bool going = true;
	pthread_mutex_lock(&link->lock);
	while (going && !(frame = mailbox_take(&link->frames)))
		going = wait_ms(link, RETRY_MS) &&
			(link->frames.full || !net_disturbed(link->socket));
	pthread_mutex_unlock(&link->lock);
	return frame;
}

/* What was sent goes with its result; the frame gets that parcel's old buffer instead. */
static void hand_over(struct parcel *frame, struct parcel *result)
{
	uint8_t *old = result->original;
	size_t old_bytes = result->original_bytes;
	result->original = frame->bgra;
	result->original_bytes = frame->room_bytes;
	frame->bgra = old;
	frame->room_bytes = old_bytes;
}

static bool exchange(struct link *link, struct parcel *frame)
{
	struct mailbox *results = &link->results;
	struct wire_header answer;
	frame->header.sequence = ++link->sequence;
	frame->sent_ns = net_now_ns();
	if (!net_send(link->socket, &frame->header, sizeof(frame->header), ANSWER_MS,
		      &link->leave) ||
	    !net_send(link->socket, frame->bgra, frame->header.body_bytes, ANSWER_MS,
		      &link->leave)) {
		become(link, LINK_LOST, "");
		return false;
	}
	pthread_mutex_lock(&link->lock);
	link->status.sent++;
	pthread_mutex_unlock(&link->lock);
	if (!answered(link, &frame->header, &answer))
		return false;
	if (!mailbox_room(results, answer.body_bytes) ||
	    !net_receive(link->socket, results->filling->bgra, answer.body_bytes, ANSWER_MS,
			 &link->leave)) {
		become(link, LINK_LOST, "");
		return false;
	}
	results->filling->header = answer;
	results->filling->sent_ns = frame->sent_ns;
	results->filling->received_ns = net_now_ns();
	hand_over(frame, results->filling);
	pthread_mutex_lock(&link->lock);
	mailbox_give(results);
	link->status.received++;
	link->status.fps = answer.fps;
	link->status.frame_ms = answer.frame_ms;
	link->status.face_count = answer.face_count;
	memcpy(link->status.device, answer.device, sizeof(link->status.device));
	pthread_mutex_unlock(&link->lock);
	return true;
}

static void converse(struct link *link)
{
	struct parcel *frame;
	if (!greeted(link))
		return;
	engine_is_there();
	become(link, LINK_CONNECTED, "");
	while ((frame = next_frame(link)))
		if (!exchange(link, frame))
			return;
	become(link, LINK_LOST, "");
}

static void find_engine(struct link *link, const struct net_address *address, bool may_start)
{
	static const enum link_state states[] = {
		[ENGINE_STARTED] = LINK_STARTING,
		[ENGINE_STARTING] = LINK_STARTING,
		[ENGINE_NOT_INSTALLED] = LINK_NOT_INSTALLED,
		[ENGINE_FAILED] = LINK_CANNOT_START,
	};
	net_socket found = net_connect(address, CONNECT_MS, &link->leave);
	if (found == NET_NONE && atomic_load(&link->leave))
		return;
	if (found == NET_NONE) {
		enum link_state state = may_start ? states[engine_start(address)] : LINK_ABSENT;
		become(link, state, "");
		return;
	}
	pthread_mutex_lock(&link->lock);
	link->socket = found;
	pthread_mutex_unlock(&link->lock);
	converse(link);
	pthread_mutex_lock(&link->lock);
	link->socket = NET_NONE;
	pthread_mutex_unlock(&link->lock);
	net_close(found);
}

static void *work(void *data)
{
	struct link *link = data;
	struct net_address address;
	char text[sizeof(link->address)];
	pthread_mutex_lock(&link->lock);
	while (!link->closing) {
		atomic_store(&link->leave, false);
		bool may_start = link->may_start;
		strcpy(text, link->address);
		pthread_mutex_unlock(&link->lock);
		if (net_parse(text, &address))
			find_engine(link, &address, may_start);
		else
			become(link, LINK_BAD_ADDRESS, "");
		/* Not by the condition: its clock is the one that people set. */
		net_pause(link->status.state == LINK_REFUSED ? REFUSED_MS : RETRY_MS, &link->leave);
		pthread_mutex_lock(&link->lock);
	}
	pthread_mutex_unlock(&link->lock);
	return NULL;
}

/* Under the lock. */
static void end_conversation(struct link *link)
{
	atomic_store(&link->leave, true);
	if (link->socket != NET_NONE)
		net_shut_down(link->socket);
	pthread_cond_signal(&link->news);
}

struct link *link_open(const char *address, bool may_start, link_log log, void *log_data)
{
	struct link *link = calloc(1, sizeof(*link));
	if (!link)
		return NULL;
	pthread_mutex_init(&link->lock, NULL);
	pthread_cond_init(&link->news, NULL);
	mailbox_open(&link->frames);
	mailbox_open(&link->results);
	link->socket = NET_NONE;
	snprintf(link->address, sizeof(link->address), "%s", address);
	link->may_start = may_start;
	link->log = log;
	link->log_data = log_data;
	link->log_lines = LOG_LINES;
	link->log_ns = net_now_ns();
	if (pthread_create(&link->worker, NULL, work, link) == 0)
		return link;
	free(link);
	return NULL;
}

void link_close(struct link *link)
{
	pthread_mutex_lock(&link->lock);
	link->closing = true;
	end_conversation(link);
	pthread_mutex_unlock(&link->lock);
	pthread_join(link->worker, NULL);
	mailbox_close(&link->frames);
	mailbox_close(&link->results);
	pthread_cond_destroy(&link->news);
	pthread_mutex_destroy(&link->lock);
	free(link);
}

void link_set(struct link *link, const char *address, bool may_start)
{
	pthread_mutex_lock(&link->lock);
	link->may_start = may_start;
	if (strncmp(link->address, address, sizeof(link->address) - 1) != 0) {
		snprintf(link->address, sizeof(link->address), "%s", address);
		end_conversation(link);
	}
	pthread_mutex_unlock(&link->lock);
}

bool link_connected(struct link *link)
{
	pthread_mutex_lock(&link->lock);
	bool connected = link->status.state == LINK_CONNECTED;
	pthread_mutex_unlock(&link->lock);
	return connected;
}

void link_status(struct link *link, struct link_status *status)
{
	pthread_mutex_lock(&link->lock);
	*status = link->status;
	status->replaced = link->frames.replaced;
	pthread_mutex_unlock(&link->lock);
}

uint8_t *link_room(struct link *link, uint32_t width_px, uint32_t height_px)
{
	bool room = mailbox_room(&link->frames, (size_t)width_px * height_px * 4);
	return room ? link->frames.filling->bgra : NULL;
}

void link_give(struct link *link, uint32_t width_px, uint32_t height_px, uint64_t captured_ns,
	       const struct wishes *wishes)
{
	/* The worker counts the frames that it sends. */
	link->frames.filling->header = message_frame(0, captured_ns, width_px, height_px, wishes);
	pthread_mutex_lock(&link->lock);
	mailbox_give(&link->frames);
	pthread_cond_signal(&link->news);
	pthread_mutex_unlock(&link->lock);
}

const struct parcel *link_take(struct link *link)
{
	pthread_mutex_lock(&link->lock);
	struct parcel *result = mailbox_take(&link->results);
	pthread_mutex_unlock(&link->lock);
	return result;
}
