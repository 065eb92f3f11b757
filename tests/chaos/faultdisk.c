/* Makes a node's disk misbehave from inside: preloaded into it, told what to do through a shared page.
 *
 * WARREN_FAULTDISK names a file of two 32-bit numbers: what to do, and its argument. Only files in the directory
 * WARREN_FAULTDISK_DIR names are touched. Built by lab.py with the system's C compiler.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { NOTHING = 0, SYNC_EIO = 1, WRITE_EIO = 2, WRITE_ENOSPC = 3, SYNC_SLOW = 4, READ_EIO = 5, WRITE_TORN = 6, SYNC_HANG = 7 };

struct control {
    volatile uint32_t mode;
    volatile uint32_t argument;
};

static struct control none;
static struct control *control = &none;
static char directory[PATH_MAX];

__attribute__((constructor)) static void begin(void) {
    const char *file = getenv("WARREN_FAULTDISK"), *where = getenv("WARREN_FAULTDISK_DIR");
    if (!file || !where) return;
    snprintf(directory, sizeof directory, "%s", where);
    int fd = open(file, O_RDWR | O_CLOEXEC);
    if (fd < 0) return;
    void *page = mmap(NULL, sizeof(struct control), PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
    if (page != MAP_FAILED) control = page;
}

static int concerns(int fd) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return strncmp(path, directory, strlen(directory)) == 0;
}

static int fails(int fd, ssize_t *result) {
    switch (control->mode) {
    case WRITE_EIO: errno = EIO; break;
    case WRITE_ENOSPC: errno = ENOSPC; break;
    default: return 0;
    }
    if (!concerns(fd)) return 0;
    errno = control->mode == WRITE_EIO ? EIO : ENOSPC;
    *result = -1;
    return 1;
}

#define REAL(name, type) static __typeof__(type) *real; if (!real) *(void **)&real = dlsym(RTLD_NEXT, name)

ssize_t write(int fd, const void *data, size_t size) {
    REAL("write", ssize_t(int, const void *, size_t));
    ssize_t result;
    if (control->mode && fails(fd, &result)) return result;
    if (control->mode == WRITE_TORN && size > 1 && concerns(fd)) {
        real(fd, data, size / 2);
        _exit(137);
    }
    return real(fd, data, size);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off_t at) {
    REAL("pwrite64", ssize_t(int, const void *, size_t, off_t));
    ssize_t result;
    return control->mode && fails(fd, &result) ? result : real(fd, data, size, at);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL("writev", ssize_t(int, const struct iovec *, int));
    ssize_t result;
    if (control->mode && fails(fd, &result)) return result;
    if (control->mode == WRITE_TORN && concerns(fd)) {
        size_t left = 0;
        for (int i = 0; i < count; i++) left += parts[i].iov_len;
        left /= 2;
        for (int i = 0; i < count && left > 0; i++) {
            struct iovec part = parts[i];
            if (part.iov_len > left) part.iov_len = left;
            real(fd, &part, 1);
            left -= part.iov_len;
        }
        _exit(137);
    }
    return real(fd, parts, count);
}

ssize_t pread64(int fd, void *data, size_t size, off_t at) {
    REAL("pread64", ssize_t(int, void *, size_t, off_t));
    if (control->mode == READ_EIO && concerns(fd)) {
        errno = EIO;
        return -1;
    }
    return real(fd, data, size, at);
}
ssize_t pread(int fd, void *data, size_t size, off_t at) { return pread64(fd, data, size, at); }
ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { return pwrite64(fd, data, size, at); }

static int slow_or_broken(int fd) {
    uint32_t mode = control->mode;
    if ((mode != SYNC_EIO && mode != SYNC_SLOW && mode != SYNC_HANG) || !concerns(fd)) return 0;
    if (mode == SYNC_EIO) {
        errno = EIO;
        return -1;
    }
    if (mode == SYNC_SLOW) usleep(control->argument * 1000);
    while (mode == SYNC_HANG && control->mode == SYNC_HANG) usleep(10000);
    return 0;
}

int fsync(int fd) {
    REAL("fsync", int(int));
    return slow_or_broken(fd) ? -1 : real(fd);
}

int fdatasync(int fd) {
    REAL("fdatasync", int(int));
    return slow_or_broken(fd) ? -1 : real(fd);
}
