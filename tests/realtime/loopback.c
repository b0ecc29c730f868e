/* Stands for one v4l2loopback device, /dev/video0, by LD_PRELOAD.

   HELD_TO=800x600:YUYV holds it to a format: another is changed silently, as the driver does while
   somebody reads, or refused where REFUSES is set. LOCKED denies access. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_FILES 1024
#define NOT_OURS -2

static int ours[MOST_FILES];
static struct v4l2_pix_format format;
static unsigned held_width, held_height, held_fourcc;

static int open_device(const char *path)
{
    if (strcmp(path, "/dev/video0") != 0)
        return NOT_OURS;
    if (getenv("LOCKED")) {
        errno = EACCES;
        return -1;
    }
    const char *held_to = getenv("HELD_TO");
    char letters[5];
    if (held_to && sscanf(held_to, "%ux%u:%4s", &held_width, &held_height, letters) == 3)
        held_fourcc = v4l2_fourcc(letters[0], letters[1], letters[2], letters[3]);
    int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, "open");
    int file = real("/dev/null", O_RDWR);
    ours[file] = 1;
    return file;
}

#define OPEN(name)                                                      \
    int name(const char *path, int flags, ...)                          \
    {                                                                   \
        int file = open_device(path);                                   \
        if (file != NOT_OURS)                                           \
            return file;                                                \
        va_list rest;                                                   \
        va_start(rest, flags);                                          \
        int mode = va_arg(rest, int);                                   \
        va_end(rest);                                                   \
        int (*real)(const char *, int, ...) = dlsym(RTLD_NEXT, #name);  \
        return real(path, flags, mode);                                 \
    }
OPEN(open)
OPEN(open64)

static int is_held_to_another(const struct v4l2_pix_format *asked)
{
    return held_width && (asked->width != held_width || asked->height != held_height ||
                          asked->pixelformat != held_fourcc);
}

static void hold(struct v4l2_pix_format *asked)
{
    if (held_width) {
        asked->width = held_width;
        asked->height = held_height;
        asked->pixelformat = held_fourcc;
    }
}

static int answer(unsigned request, void *argument)
{
    struct v4l2_pix_format *pixels = &((struct v4l2_format *)argument)->fmt.pix;
    switch (request) {
    case VIDIOC_QUERYCAP: {
        struct v4l2_capability *capability = argument;
        memset(capability, 0, sizeof *capability);
        strcpy((char *)capability->driver, "v4l2 loopback");
        capability->capabilities = V4L2_CAP_VIDEO_OUTPUT;
        return 0;
    }
    case VIDIOC_S_FMT:
        if (is_held_to_another(pixels) && getenv("REFUSES")) {
            errno = EBUSY;
            return -1;
        }
        hold(pixels);
        format = *pixels;
        return 0;
    case VIDIOC_G_FMT:
        *pixels = format;
        hold(pixels);
        return 0;
    }
    errno = EINVAL;
    return -1;
}

int ioctl(int file, unsigned long request, ...)
{
    va_list rest;
    va_start(rest, request);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    if (file >= 0 && file < MOST_FILES && ours[file])
        return answer((unsigned)request, argument);
    int (*real)(int, unsigned long, ...) = dlsym(RTLD_NEXT, "ioctl");
    return real(file, request, argument);
}

int close(int file)
{
    if (file >= 0 && file < MOST_FILES)
        ours[file] = 0;
    int (*real)(int) = dlsym(RTLD_NEXT, "close");
    return real(file);
}
