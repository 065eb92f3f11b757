/* Clock and chance of a simulation. Where WARREN_SIMULATION_SEED is set, the main thread of this program gets from the C
 * library a clock that moves only when that thread sleeps, and random octets that follow from the seed. Other threads
 * (RocksDB's) and programs without the variable get what the system has. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <linux/futex.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static int known;
static uint64_t state;
static uint64_t elapsed_ns;
/* How long the main thread wanted to wait; 0: it did not. */
static uint64_t wanted_ns;

/* 2026-01-01 00:00:00 UTC, and a machine that has been up for a day. */
static const uint64_t DAY_ZERO_S = 1767225600, UP_S = 86400;

/* Whether this thread is the main one; asked once, since a run asks millions of times. */
static __thread int main_thread;

static int simulated(void)
{
    if (main_thread == 0)
        main_thread = gettid() == getpid() ? 1 : -1;
    if (main_thread < 0)
        return 0;
    if (known == 0) {
        const char *seed = getenv("WARREN_SIMULATION_SEED");
        known = seed ? 1 : -1;
        if (seed)
            state = strtoull(seed, NULL, 10) * 0x9e3779b97f4a7c15u + 1;
    }
    return known > 0;
}

ssize_t getrandom(void *buffer, size_t length, unsigned int flags)
{
    if (!simulated())
        return syscall(SYS_getrandom, buffer, length, flags);
    for (size_t at = 0; at < length; at++) {
        /* SplitMix64. */
        uint64_t x = state += 0x9e3779b97f4a7c15u;
        x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
        x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
        ((unsigned char *)buffer)[at] = (unsigned char)((x ^ (x >> 31)) >> 24);
    }
    return (ssize_t)length;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    if (!simulated())
        return (int)syscall(SYS_clock_gettime, clock, now);
    uint64_t start_s = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE ? DAY_ZERO_S : UP_S;
    now->tv_sec = (time_t)(start_s + elapsed_ns / 1000000000u);
    now->tv_nsec = (long)(elapsed_ns % 1000000000u);
    return 0;
}

int clock_nanosleep(clockid_t clock, int flags, const struct timespec *request, struct timespec *remain)
{
    if (!simulated())
        return syscall(SYS_clock_nanosleep, clock, flags, request, remain) < 0 ? 4 /* EINTR */ : 0;
    if (flags == 0)
        elapsed_ns += (uint64_t)request->tv_sec * 1000000000u + (uint64_t)request->tv_nsec;
    return 0;
}

int nanosleep(const struct timespec *request, struct timespec *remain)
{
    if (!simulated())
        return (int)syscall(SYS_nanosleep, request, remain);
    return clock_nanosleep(CLOCK_MONOTONIC, 0, request, remain);
}

/* A runtime that has nothing to do waits until its next timer: here it does not wait, but one can ask how long it would have. */
uint64_t simulation_wanted_ns(void)
{
    return wanted_ns;
}

void simulation_forget_wanted(void)
{
    wanted_ns = 0;
}

static long really(long number, long a, long b, long c, long d, long e, long f)
{
    static long (*next)(long, ...);
    if (next == NULL)
        next = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    return next(number, a, b, c, d, e, f);
}

long syscall(long number, ...)
{
    va_list arguments;
    va_start(arguments, number);
    long a = va_arg(arguments, long), b = va_arg(arguments, long), c = va_arg(arguments, long);
    long d = va_arg(arguments, long), e = va_arg(arguments, long), f = va_arg(arguments, long);
    va_end(arguments);
    /* The standard library's wait with a timeout, which it gives as a time of the monotonic clock. */
    if (number == SYS_futex && (b & FUTEX_CMD_MASK) == FUTEX_WAIT_BITSET && d != 0 && simulated()) {
        const struct timespec *until = (const struct timespec *)d;
        uint64_t until_ns = (uint64_t)(until->tv_sec - (time_t)UP_S) * 1000000000u + (uint64_t)until->tv_nsec;
        wanted_ns = until_ns > elapsed_ns ? until_ns - elapsed_ns : 0;
        errno = ETIMEDOUT;
        return -1;
    }
    return really(number, a, b, c, d, e, f);
}
