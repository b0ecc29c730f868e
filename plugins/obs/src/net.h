/* A stream socket on the loopback that can be left at any time, and a clock. POSIX and Winsock.
 *
 * Nothing here waits longer than its limit, nor than NET_SLICE_MS after `*leave` became true.
 */
#ifndef CAGFACE_NET_H
#define CAGFACE_NET_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef _WIN32
#include <winsock2.h>
typedef SOCKET net_socket;
#define NET_NONE INVALID_SOCKET
#else
typedef int net_socket;
#define NET_NONE (-1)
#endif

#define NET_SLICE_MS 20

struct net_address {
	char host[16]; /* dotted, 127.x.x.x */
	uint16_t port;
};

/* Ready for use; to be called before anything else here. */
bool net_start(void);

/* Nanoseconds of a clock that never goes back. */
uint64_t net_now_ns(void);

/* Wait so long, by that clock. */
void net_pause(int ms, const atomic_bool *leave);

/* Read "HOST:PORT"; false where HOST is not `localhost` or 127.x.x.x, or PORT is not 1..65535. */
bool net_parse(const char *text, struct net_address *address);

/* Connect within `limit_ms`; NET_NONE where nobody listens. */
net_socket net_connect(const struct net_address *address, int limit_ms, const atomic_bool *leave);

/* Every byte, within `limit_ms` in all; false where the other side is gone or the time is over. */
bool net_send(net_socket socket, const void *data, size_t bytes, int limit_ms,
	      const atomic_bool *leave);
bool net_receive(net_socket socket, void *data, size_t bytes, int limit_ms,
		 const atomic_bool *leave);

/* Whether the other side has closed, or said something that nobody asked for. */
bool net_disturbed(net_socket socket);

/* Wakes who waits for it in another thread. */
void net_shut_down(net_socket socket);
void net_close(net_socket socket);

#endif
