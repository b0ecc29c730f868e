#include "net.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifdef _WIN32
#include <ws2tcpip.h>
typedef int net_length;
#define poll WSAPoll
#define SHUT_RDWR SD_BOTH
#define SEND_FLAGS 0
#else
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>
typedef ssize_t net_length;
#ifdef MSG_NOSIGNAL
#define SEND_FLAGS MSG_NOSIGNAL
#else
#define SEND_FLAGS 0
#endif
#endif

#define LARGEST_CALL_BYTES (1 << 20)

bool net_start(void)
{
#ifdef _WIN32
	WSADATA data;
	return WSAStartup(MAKEWORD(2, 2), &data) == 0;
#else
	return true;
#endif
}

uint64_t net_now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void net_pause(int ms, const atomic_bool *leave)
{
	uint64_t until_ns = net_now_ns() + (uint64_t)ms * 1000000u;
	struct timespec slice = {.tv_nsec = NET_SLICE_MS * 1000000};
	while (!atomic_load(leave) && net_now_ns() < until_ns)
		nanosleep(&slice, NULL);
}

bool net_parse(const char *text, struct net_address *address)
{
	const char *colon = strrchr(text, ':');
	if (!colon || colon == text || (size_t)(colon - text) >= sizeof(address->host))
		return false;
	char *end;
	long port = strtol(colon + 1, &end, 10);
	if (colon[1] < '0' || colon[1] > '9' || *end || port < 1 || port > 65535)
		return false;
	memset(address->host, 0, sizeof(address->host));
	memcpy(address->host, text, (size_t)(colon - text));
	if (strcmp(address->host, "localhost") == 0)
		strcpy(address->host, "127.0.0.1");
	struct in_addr number;
	if (inet_pton(AF_INET, address->host, &number) != 1 || ntohl(number.s_addr) >> 24 != 127)
		return false;
	address->port = (uint16_t)port;
	return true;
}

static bool would_wait(void)
{
#ifdef _WIN32
	return WSAGetLastError() == WSAEWOULDBLOCK;
#else
	return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINPROGRESS || errno == EINTR;
#endif
}

static bool wait_until_ready(net_socket socket, short events, uint64_t until_ns,
			     const atomic_bool *leave)
{
	while (!atomic_load(leave)) {
		uint64_t now = net_now_ns();
		if (now >= until_ns)
			return false;
		uint64_t left_ms = (until_ns - now) / 1000000u + 1;
		struct pollfd ready = {.fd = socket, .events = events};
		int found = poll(&ready, 1, left_ms < NET_SLICE_MS ? (int)left_ms : NET_SLICE_MS);
		if (found > 0)
			return true; /* an error too: the call that follows tells */
		if (found < 0 && !would_wait())
			return false;
	}
	return false;
}

static void make_ready(net_socket socket)
{
	int yes = 1;
#ifdef _WIN32
	u_long on = 1;
	ioctlsocket(socket, FIONBIO, &on);
	setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, (const char *)&yes, sizeof(yes));
#else
	fcntl(socket, F_SETFL, fcntl(socket, F_GETFL) | O_NONBLOCK);
	fcntl(socket, F_SETFD, FD_CLOEXEC);
	setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
#ifdef SO_NOSIGPIPE
	setsockopt(socket, SOL_SOCKET, SO_NOSIGPIPE, &yes, sizeof(yes));
#endif
#endif
}

net_socket net_connect(const struct net_address *address, int limit_ms, const atomic_bool *leave)
{
	uint64_t until_ns = net_now_ns() + (uint64_t)limit_ms * 1000000u;
	net_socket found = socket(AF_INET, SOCK_STREAM, 0);
	if (found == NET_NONE)
		return NET_NONE;
	make_ready(found);
	struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons(address->port)};
	inet_pton(AF_INET, address->host, &there.sin_addr);
	bool done = connect(found, (struct sockaddr *)&there, sizeof(there)) == 0;
	if (!done && would_wait() && wait_until_ready(found, POLLOUT, until_ns, leave)) {
		int error = 0;
		socklen_t size = sizeof(error);
		getsockopt(found, SOL_SOCKET, SO_ERROR, (void *)&error, &size);
		done = error == 0;
	}
	/* A port of the range that outgoing connections take may be connected to itself. */
	struct sockaddr_in here = {0};
	socklen_t size = sizeof(here);
	if (done && getsockname(found, (struct sockaddr *)&here, &size) == 0 &&
	    here.sin_port == there.sin_port)
		done = false;
	if (done)
		return found;
	net_close(found);
	return NET_NONE;
}

bool net_send(net_socket socket, const void *data, size_t bytes, int limit_ms,
	      const atomic_bool *leave)
{
	uint64_t until_ns = net_now_ns() + (uint64_t)limit_ms * 1000000u;
	const char *next = data;
	while (bytes && !atomic_load(leave)) {
		size_t part = bytes < LARGEST_CALL_BYTES ? bytes : LARGEST_CALL_BYTES;
		net_length sent = send(socket, next, part, SEND_FLAGS);
		if (sent > 0) {
			next += sent;
			bytes -= (size_t)sent;
		} else if (!would_wait() || !wait_until_ready(socket, POLLOUT, until_ns, leave)) {
			return false;
		}
	}
	return bytes == 0;
}

bool net_receive(net_socket socket, void *data, size_t bytes, int limit_ms,
		 const atomic_bool *leave)
{
	uint64_t until_ns = net_now_ns() + (uint64_t)limit_ms * 1000000u;
	char *next = data;
	while (bytes && !atomic_load(leave)) {
		size_t part = bytes < LARGEST_CALL_BYTES ? bytes : LARGEST_CALL_BYTES;
		net_length got = recv(socket, next, part, 0);
		if (got > 0) {
			next += got;
			bytes -= (size_t)got;
		} else if (got == 0 || !would_wait() ||
			   !wait_until_ready(socket, POLLIN, until_ns, leave)) {
			return false;
		}
	}
	return bytes == 0;
}

bool net_disturbed(net_socket socket)
{
	char byte;
	net_length got = recv(socket, &byte, 1, MSG_PEEK);
	return got >= 0 || !would_wait();
}

void net_shut_down(net_socket socket)
{
	shutdown(socket, SHUT_RDWR);
}

void net_close(net_socket socket)
{
#ifdef _WIN32
	closesocket(socket);
#else
	close(socket);
#endif
}
