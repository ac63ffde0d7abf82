/* The engine's clock and its one timer. */
#include <errno.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "internal.h"

static uint64_t
monotonic_us(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

/*
 * picoquic wants time since the epoch, yet must not see the wall clock step: the
 * distance between the two clocks is taken once and kept.
 */
void
bp_clock_refresh(bp_engine_t *engine)
{
    if (engine->config.simulated) {
        return;
    }
    if (engine->wall_offset_us == 0) {
        struct timespec wall;
        (void)clock_gettime(CLOCK_REALTIME, &wall);
        engine->wall_offset_us =
            (uint64_t)wall.tv_sec * 1000000u + (uint64_t)wall.tv_nsec / 1000u - monotonic_us();
    }
    engine->now_us = monotonic_us() + engine->wall_offset_us;
}

void
bp_clock_spin(bp_engine_t *engine, uint64_t until_us)
{
    while (engine->now_us < until_us) {
#if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        __asm__ __volatile__("yield");
#endif
        bp_clock_refresh(engine);
    }
}

int
bp_timer_open(bp_engine_t *engine)
{
    engine->armed_us = UINT64_MAX;
    engine->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    return engine->timer_fd < 0 ? BP_E_SYSTEM : BP_OK;
}

/* An earlier alarm is left alone: waking once too often costs less than a system call per send. */
void
bp_timer_arm(bp_engine_t *engine, uint64_t delay_us)
{
    uint64_t at_us = engine->now_us + delay_us;
    if (engine->armed_us <= at_us && engine->armed_us > engine->now_us) {
        return;
    }
    uint64_t ns = delay_us == 0 ? 1 : delay_us * 1000u;
    struct itimerspec when;
    memset(&when, 0, sizeof(when));
    when.it_value.tv_sec = (time_t)(ns / 1000000000u);
    when.it_value.tv_nsec = (long)(ns % 1000000000u);
    if (timerfd_settime(engine->timer_fd, 0, &when, NULL) == 0) {
        engine->armed_us = at_us;
    }
}

/* Take back readiness of a timer that has fired. */
void
bp_timer_clear(bp_engine_t *engine)
{
    if (engine->armed_us > engine->now_us) {
        return;
    }
    uint64_t expirations;
    ssize_t n = read(engine->timer_fd, &expirations, sizeof(expirations));
    if (n == (ssize_t)sizeof(expirations)) {
        engine->armed_us = UINT64_MAX;
    }
}
