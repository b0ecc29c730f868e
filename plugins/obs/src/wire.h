/* What the OBS filter and the engine (`cagface serve`, realtime/wire.py) say to each other.
 *
 * Loopback TCP. Every message is one header of 128 bytes, little endian, and `body_bytes` bytes.
 *   filter -> engine  HELLO   body: the token's 64 hexadecimal digits
 *   engine -> filter  WELCOME no body; `device` is set
 *   filter -> engine  FRAME   body: the picture, with the wishes for it in the header
 *   engine -> filter  RESULT  body: the picture, `scale` times as wide and high; same sequence,
 *                             captured_ns and scale as the frame it is made of
 *   engine -> filter  REFUSAL body: one line, UTF-8, at most WIRE_MAX_TEXT_BYTES: what is wrong and
 *                             what to do; then the engine closes the connection
 * One frame is on its way at a time: the filter sends the next when the last one's result is there.
 * A picture is BGRA, 8 bit, sRGB, straight alpha, rows without padding, top row first.
 * Each side checks every header before it reads the body, and closes the connection at the first
 * one that is wrong. tests/realtime/test_wire.py holds the two files together.
 */
#ifndef CAGFACE_WIRE_H
#define CAGFACE_WIRE_H

#include <stdint.h>

#define WIRE_MAGIC 0x46474143u /* "CAGF" */
#define WIRE_VERSION 1u
#define WIRE_PORT 7461u
#define WIRE_TOKEN_BYTES 64u
#define WIRE_MAX_SIDE_PX 8192u /* of a picture, either way */
#define WIRE_MAX_TEXT_BYTES 1024u

enum wire_kind { WIRE_HELLO = 1, WIRE_WELCOME = 2, WIRE_FRAME = 3, WIRE_RESULT = 4, WIRE_REFUSAL = 5 };
enum wire_faces { WIRE_FACES_ALL = 0, WIRE_FACES_LARGEST = 1 };

struct wire_header {
	uint32_t magic;
	uint16_t version;
	uint16_t kind;        /* enum wire_kind */
	uint64_t sequence;    /* of the frame, counted by the filter */
	uint64_t captured_ns; /* the filter's own clock; the engine gives it back as it is */
	uint32_t width_px;    /* of the picture in the body; 0 without one */
	uint32_t height_px;
	uint32_t body_bytes; /* a picture: width_px * height_px * 4 */
	/* Wishes, in a FRAME; a RESULT repeats scale. */
	uint32_t scale;  /* 1, 2 or 4 */
	uint32_t faces;  /* enum wire_faces */
	float strength;  /* 0..1 */
	char preset[16]; /* "auto" or a name the engine knows; zero-filled, ends with a zero */
	/* How it goes, in a RESULT; `device` in a WELCOME too. */
	float fps;           /* results a second of this connection */
	float frame_ms;      /* engine's time for this frame */
	uint32_t face_count; /* enhanced in this frame */
	char device[40];     /* UTF-8, zero-filled, ends with a zero */
	uint8_t reserved[12];
};

_Static_assert(sizeof(struct wire_header) == 128, "the header has 128 bytes");

#endif
