/* Bulk over a bad link: the bytes are equal, and so is the time, whenever the seed is. */
#include "check.h"
#include "engine_pair.h"

#define BYTES (UINT64_C(5) << 20)

typedef struct {
    uint64_t done_us;
    uint64_t events;
    uint64_t hash;
    uint64_t datagrams;
} outcome_t;

static bool
both_ended(pair_t *pair, void *context)
{
    (void)context;
    pair_stream_t *there = pair_stream_by_id(pair, 1, 0);
    pair_stream_t *back = pair_stream_by_id(pair, 0, 1);
    return there != NULL && back != NULL && there->fins == 1 && back->fins == 1;
}

/* 5 MB each way at once, on a stream each. */
static outcome_t
transfer(uint64_t seed, pair_link_t link)
{
    pair_t pair;
    bp_config_t config = pair_config();
    config.stream_window = 8 << 20;
    pair_init(&pair, seed);
    pair.link = link;
    pair_add(&pair, 0, &config);
    pair_add(&pair, 1, &config);
    uint64_t client = pair_connect(&pair, 0, 1);
    uint64_t start_us = pair.now_us;
    pair_source_t *there = pair_send(&pair, 0, pair_open(&pair, 0, client, 0), BYTES, true);
    pair_source_t *back =
        pair_send(&pair, 1, pair_open(&pair, 1, pair_accepted(&pair, 1), 0), BYTES, true);
    CHECK(pair_until(&pair, 120 * PAIR_SECOND, both_ended, NULL));
    CHECK_EQUAL(pair_stream_by_id(&pair, 1, 0)->received, BYTES);
    CHECK_EQUAL(pair_stream_by_id(&pair, 0, 1)->received, BYTES);
    CHECK(pair_stream_by_id(&pair, 1, 0)->hash == there->hash);
    CHECK(pair_stream_by_id(&pair, 0, 1)->hash == back->hash);
    outcome_t outcome = {.done_us = pair.now_us - start_us,
                         .events = pair.sides[0].events + pair.sides[1].events,
                         .hash = there->hash ^ back->hash,
                         .datagrams = pair.sides[0].datagrams + pair.sides[1].datagrams};
    pair_free(&pair);
    return outcome;
}

static void
check_repeats(const char *name, uint64_t seed, pair_link_t link)
{
    outcome_t first = transfer(seed, link);
    outcome_t second = transfer(seed, link);
    fprintf(stderr, "  %s: %llu ms, %llu datagrams\n", name,
            (unsigned long long)(first.done_us / PAIR_MS), (unsigned long long)first.datagrams);
    CHECK_EQUAL(first.done_us, second.done_us);
    CHECK_EQUAL(first.events, second.events);
    CHECK_EQUAL(first.datagrams, second.datagrams);
    CHECK(first.hash == second.hash);
}

static void
a_clean_link_is_used_well(void)
{
    pair_link_t link = {
        .latency_us = 25 * PAIR_MS, .bytes_per_s = 10000000, .backlog_bytes = 1 << 20};
    outcome_t outcome = transfer(1, link);
    /* 5 MB at 10 MB/s take 0.53 s; slow start, framing and the last round trip come on top. */
    CHECK(outcome.done_us < 1500 * PAIR_MS);
    check_repeats("clean", 1, link);
}

static void
loss_duplicates_and_reordering_change_nothing_but_the_time(void)
{
    pair_link_t link = {.latency_us = 25 * PAIR_MS,
                        .bytes_per_s = 10000000,
                        .backlog_bytes = 1 << 20,
                        .loss = 100,
                        .duplicates = 100,
                        .reorder = 300,
                        .reorder_us = 10 * PAIR_MS};
    for (uint64_t seed = 1; seed <= 3; seed++) {
        check_repeats("1 % loss", seed, link);
    }
}

static void
heavy_loss_is_survived(void)
{
    pair_link_t link = {.latency_us = 5 * PAIR_MS,
                        .bytes_per_s = 10000000,
                        .backlog_bytes = 1 << 20,
                        .loss = 1000,
                        .reorder = 1000,
                        .reorder_us = 20 * PAIR_MS};
    check_repeats("10 % loss", 9, link);
}

int
main(void)
{
    RUN(a_clean_link_is_used_well);
    RUN(loss_duplicates_and_reordering_change_nothing_but_the_time);
    RUN(heavy_loss_is_survived);
    return 0;
}
