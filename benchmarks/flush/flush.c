/* Gives fsync and fdatasync a fixed cost, in place of the disk's own: for LD_PRELOAD, on a memory-backed folder.
 *
 * BENCH_FLUSH_NS is that cost in nanoseconds. The wait is a sleep, as a flush is one; the kernel's slack is set to
 * its least, and what is left of a microsecond's worth of lateness is not corrected for, since all sides have it. */

#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>

static int flush(void)
{
    static __thread int is_set;
    const char *text = getenv("BENCH_FLUSH_NS");
    long cost_ns = text ? atol(text) : 0;
    struct timespec until;

    if (cost_ns <= 0)
        return 0;
    if (!is_set) {
        prctl(PR_SET_TIMERSLACK, 1UL, 0, 0, 0);
        is_set = 1;
    }
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += cost_ns;
    until.tv_sec += until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) != 0)
        ;
    return 0;
}

int fsync(int descriptor)
{
    (void)descriptor;
    return flush();
}

int fdatasync(int descriptor)
{
    (void)descriptor;
    return flush();
}
