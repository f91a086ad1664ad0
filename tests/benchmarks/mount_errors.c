/* Preloaded by mount_errors.py: lets the N-th call of one kind on one path fail, as a mount in trouble would.
   Python, libsndfile and FFmpeg all come through here, for they all call the C library. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { OPEN, READ, SEEK, STAT, LIST, KINDS };
#define FILES 4096
static char prefix[4096];
static char ours[FILES];           /* whether a descriptor is of the path */
static long counts[KINDS], fired;
static int kind = -1, number, once, armed;
static long nth;

void fault_watch(const char *path) { strncpy(prefix, path, sizeof prefix - 1); }
void fault_arm(int k, long n, int e, int o) {
    memset(counts, 0, sizeof counts);
    kind = k; nth = n; number = e; once = o; fired = 0; armed = 1;
}
void fault_disarm(void) { armed = 0; }
long fault_count(int k) { return counts[k]; }
long fault_fired(void) { return fired; }

static int about(const char *path) { return path && *prefix && !strncmp(path, prefix, strlen(prefix)); }
static int about_fd(int fd) { return fd >= 0 && fd < FILES && ours[fd]; }
static int fails(int k) {
    if (!armed) return 0;
    long count = __atomic_add_fetch(&counts[k], 1, __ATOMIC_SEQ_CST);
    if (k != kind || (once ? count != nth : count < nth)) return 0;
    fired++;
    errno = number;
    return 1;
}
#define REAL(type, name) static type real; if (!real) real = (type)dlsym(RTLD_NEXT, name)

static int remember(int fd, int mine) { if (fd >= 0 && fd < FILES) ours[fd] = mine; return fd; }
#define OPENER(name)                                                                                     \
    int name(const char *path, int flags, ...) {                                                         \
        typedef int (*call)(const char *, int, ...);                                                     \
        REAL(call, #name);                                                                               \
        va_list rest; va_start(rest, flags); int mode = va_arg(rest, int); va_end(rest);                 \
        int mine = about(path);                                                                          \
        if (mine && fails(OPEN)) return -1;                                                              \
        return remember(real(path, flags, mode), mine);                                                  \
    }
OPENER(open)
OPENER(open64)
#define OPENER_AT(name)                                                                                  \
    int name(int folder, const char *path, int flags, ...) {                                             \
        typedef int (*call)(int, const char *, int, ...);                                                \
        REAL(call, #name);                                                                               \
        va_list rest; va_start(rest, flags); int mode = va_arg(rest, int); va_end(rest);                 \
        int mine = about(path);                                                                          \
        if (mine && fails(OPEN)) return -1;                                                              \
        return remember(real(folder, path, flags, mode), mine);                                          \
    }
OPENER_AT(openat)
OPENER_AT(openat64)
int close(int fd) {
    typedef int (*call)(int);
    REAL(call, "close");
    remember(fd, 0);
    return real(fd);
}
ssize_t read(int fd, void *into, size_t size) {
    typedef ssize_t (*call)(int, void *, size_t);
    REAL(call, "read");
    return about_fd(fd) && fails(READ) ? -1 : real(fd, into, size);
}
ssize_t pread(int fd, void *into, size_t size, off_t at) {
    typedef ssize_t (*call)(int, void *, size_t, off_t);
    REAL(call, "pread");
    return about_fd(fd) && fails(READ) ? -1 : real(fd, into, size, at);
}
ssize_t pread64(int fd, void *into, size_t size, off64_t at) {
    typedef ssize_t (*call)(int, void *, size_t, off64_t);
    REAL(call, "pread64");
    return about_fd(fd) && fails(READ) ? -1 : real(fd, into, size, at);
}
#define VECTOR_READER(name, offset)                                                                      \
    ssize_t name(int fd, const struct iovec *into, int count, offset at) {                               \
        typedef ssize_t (*call)(int, const struct iovec *, int, offset);                                 \
        REAL(call, #name);                                                                               \
        return about_fd(fd) && fails(READ) ? -1 : real(fd, into, count, at);                             \
    }
VECTOR_READER(preadv, off_t)
VECTOR_READER(preadv64, off64_t)
#define FLAGGED_READER(name, offset)                                                                     \
    ssize_t name(int fd, const struct iovec *into, int count, offset at, int flags) {                    \
        typedef ssize_t (*call)(int, const struct iovec *, int, offset, int);                            \
        REAL(call, #name);                                                                               \
        return about_fd(fd) && fails(READ) ? -1 : real(fd, into, count, at, flags);                      \
    }
FLAGGED_READER(preadv2, off_t)
FLAGGED_READER(preadv64v2, off64_t)
off_t lseek(int fd, off_t at, int from) {
    typedef off_t (*call)(int, off_t, int);
    REAL(call, "lseek");
    return about_fd(fd) && fails(SEEK) ? -1 : real(fd, at, from);
}
off64_t lseek64(int fd, off64_t at, int from) {
    typedef off64_t (*call)(int, off64_t, int);
    REAL(call, "lseek64");
    return about_fd(fd) && fails(SEEK) ? -1 : real(fd, at, from);
}
#define STATTER(name, buffer)                                                                            \
    int name(const char *path, struct buffer *into) {                                                    \
        typedef int (*call)(const char *, struct buffer *);                                              \
        REAL(call, #name);                                                                               \
        return about(path) && fails(STAT) ? -1 : real(path, into);                                       \
    }
STATTER(stat, stat)
STATTER(lstat, stat)
STATTER(stat64, stat64)
STATTER(lstat64, stat64)
#define STATTER_FD(name, buffer)                                                                         \
    int name(int fd, struct buffer *into) {                                                              \
        typedef int (*call)(int, struct buffer *);                                                       \
        REAL(call, #name);                                                                               \
        return about_fd(fd) && fails(STAT) ? -1 : real(fd, into);                                        \
    }
STATTER_FD(fstat, stat)
STATTER_FD(fstat64, stat64)
#define STATTER_AT(name, buffer)                                                                         \
    int name(int folder, const char *path, struct buffer *into, int flags) {                             \
        typedef int (*call)(int, const char *, struct buffer *, int);                                    \
        REAL(call, #name);                                                                               \
        return about(path) && fails(STAT) ? -1 : real(folder, path, into, flags);                        \
    }
STATTER_AT(fstatat, stat)
STATTER_AT(fstatat64, stat64)
DIR *opendir(const char *path) {
    typedef DIR *(*call)(const char *);
    REAL(call, "opendir");
    if (about(path) && fails(LIST)) return 0;
    DIR *folder = real(path);
    if (folder) remember(dirfd(folder), about(path));
    return folder;
}
#define READER(name, entry)                                                                              \
    struct entry *name(DIR *folder) {                                                                    \
        typedef struct entry *(*call)(DIR *);                                                            \
        REAL(call, #name);                                                                               \
        return about_fd(dirfd(folder)) && fails(LIST) ? 0 : real(folder);                                \
    }
READER(readdir, dirent)
READER(readdir64, dirent64)
