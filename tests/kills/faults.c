// Preloaded into the service: kills it at an exact point of its input and output, or lets the disk fail.
//
//   KILL_AT=before:sync:7   before, or after, the 7th sync, write (to a file) or send (of an answer) since the start
//   NO_SPACE=PATH           writes to files fail with ENOSPC as long as PATH exists
//   NO_SPACE_FOR=SUFFIX     only to those whose names end so
//   SYNC_FAILS=PATH         syncs fail with EIO as long as PATH exists
//   SYNCS=PATH              a byte is added to PATH for each sync
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum point { SYNC, WRITE, SEND };
static const char *const names[] = {"sync", "write", "send"};

static void pass(const char *when, enum point point) {
    static atomic_int passed[2][3];
    const char *at = getenv("KILL_AT");
    char wanted_when[8], wanted_point[8];
    int number;
    if (!at || sscanf(at, "%7[^:]:%7[^:]:%d", wanted_when, wanted_point, &number) != 3) return;
    if (strcmp(when, wanted_when) || strcmp(names[point], wanted_point)) return;
    if (atomic_fetch_add(&passed[when[0] == 'a'][point], 1) + 1 == number) kill(getpid(), SIGKILL);
}

static int is_set(const char *name) {
    const char *path = getenv(name);
    return path && access(path, F_OK) == 0;
}

static int is_file(int fd) {
    struct stat stat;
    return fstat(fd, &stat) == 0 && S_ISREG(stat.st_mode);
}

static int is_full(int fd) {
    const char *suffix = getenv("NO_SPACE_FOR");
    char link[32], name[4096];
    if (!is_set("NO_SPACE")) return 0;
    if (!suffix) return 1;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, name, sizeof name), wanted = strlen(suffix);
    return size >= wanted && !memcmp(name + size - wanted, suffix, wanted);
}

static void *next(const char *name) { return dlsym(RTLD_NEXT, name); }

static ssize_t counted_write(int fd, const void *bytes, size_t size) {
    ssize_t (*real)(int, const void *, size_t) = next("write");
    return real(fd, bytes, size);
}

static int synced(const char *name, int fd) {
    int (*real)(int) = next(name);
    pass("before", SYNC);
    if (is_set("SYNC_FAILS")) {
        errno = EIO;
        return -1;
    }
    int result = real(fd);
    const char *path = getenv("SYNCS");
    int count = path ? open(path, O_WRONLY | O_CREAT | O_APPEND, 0600) : -1;
    if (count >= 0) {
        counted_write(count, ".", 1);
        close(count);
    }
    pass("after", SYNC);
    return result;
}

int fsync(int fd) { return synced("fsync", fd); }
int fdatasync(int fd) { return synced("fdatasync", fd); }

#define WRITTEN(call)                         \
    if (!is_file(fd)) return call;            \
    pass("before", WRITE);                    \
    if (is_full(fd)) {                        \
        errno = ENOSPC;                       \
        return -1;                            \
    }                                         \
    ssize_t result = call;                    \
    pass("after", WRITE);                     \
    return result;

ssize_t write(int fd, const void *bytes, size_t size) {
    WRITTEN(counted_write(fd, bytes, size))
}
ssize_t pwrite(int fd, const void *bytes, size_t size, off_t at) {
    ssize_t (*real)(int, const void *, size_t, off_t) = next("pwrite");
    WRITTEN(real(fd, bytes, size, at))
}
ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t at) {
    ssize_t (*real)(int, const void *, size_t, off64_t) = next("pwrite64");
    WRITTEN(real(fd, bytes, size, at))
}

ssize_t send(int fd, const void *bytes, size_t size, int flags) {
    ssize_t (*real)(int, const void *, size_t, int) = next("send");
    pass("before", SEND);
    ssize_t result = real(fd, bytes, size, flags);
    pass("after", SEND);
    return result;
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
    ssize_t (*real)(int, const struct iovec *, int) = next("writev");
    if (is_file(fd)) return real(fd, parts, count);
    pass("before", SEND);
    ssize_t result = real(fd, parts, count);
    pass("after", SEND);
    return result;
}
