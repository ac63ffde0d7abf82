/* The send buffer: lending places in it, taking back, moving and growing, against a byte queue. */
#include <string.h>

#include "check.h"
#include "engine_pair.h"

static pair_t pair;
static uint64_t client;
static uint64_t stream;

static void
start_with(bp_config_t config)
{
    pair_init(&pair, 1);
    pair_add(&pair, 0, &config);
    pair_add(&pair, 1, &config);
    client = pair_connect(&pair, 0, 1);
    stream = pair_open(&pair, 0, client, 1);
}

static bp_engine_t *
engine(void)
{
    return pair.sides[0].engine;
}

/* What was committed, as the receiver must see it. */
typedef struct {
    uint64_t state;
    uint64_t hash;
    uint64_t length;
} model_t;

static void
model_append(model_t *model, const uint8_t *bytes, size_t length)
{
    model->hash = pair_hash(model->hash, bytes, length);
    model->length += length;
}

static size_t
random_size(model_t *model)
{
    static const size_t sizes[] = {0, 1, 7, 64, 511, 512, 513, 1200, 5000, 40000, 70000};
    uint64_t r = pair_random(&model->state);
    size_t top = sizes[r % (sizeof(sizes) / sizeof(sizes[0]))];
    return top == 0 ? 0 : (size_t)(r >> 32) % top + 1;
}

static void
fill(model_t *model, uint8_t *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        bytes[i] = (uint8_t)(pair_random(&model->state) >> 40);
    }
}

/* A frame under construction: a few pieces, each asking for room behind the ones before. */
static void
build_and_commit(model_t *model, bool keep_it)
{
    static uint8_t expected[512 << 10];
    uint8_t *place = NULL;
    size_t built = 0;
    size_t pieces = pair_random(&model->state) % 4 + 1;
    for (size_t i = 0; i < pieces; i++) {
        size_t n = random_size(model);
        int status = bp_stream_reserve(engine(), stream, built, n, &place);
        if (status == BP_E_FULL) {
            return; /* what was built so far is simply forgotten */
        }
        CHECK_EQUAL(status, BP_OK);
        CHECK(built == 0 || memcmp(place, expected, built) == 0);
        fill(model, expected + built, n);
        if (n > 0) {
            memcpy(place + built, expected + built, n);
        }
        built += n;
    }
    if (!keep_it) {
        return;
    }
    size_t n = built > 0 && pair_random(&model->state) % 2 ? built - 1 : built;
    int64_t before = bp_stream_queued(engine(), stream);
    CHECK(bp_stream_commit(engine(), stream, n, 0) >= 0);
    CHECK_EQUAL(bp_stream_queued(engine(), stream), before + (int64_t)n);
    model_append(model, expected, n);
}

static void
write_whole(model_t *model)
{
    static uint8_t bytes[80000];
    size_t n = random_size(model);
    fill(model, bytes, n);
    int64_t before = bp_stream_queued(engine(), stream);
    int64_t room = bp_stream_write(engine(), stream, bytes, n, 0);
    if (room == BP_E_FULL) {
        CHECK_EQUAL(bp_stream_queued(engine(), stream), before);
        return;
    }
    CHECK(room >= 0);
    CHECK_EQUAL(bp_stream_queued(engine(), stream), before + (int64_t)n);
    model_append(model, bytes, n);
}

static void
any_mixture_of_lending_writing_and_sending_arrives_as_a_plain_queue_would(void)
{
    for (uint64_t seed = 1; seed <= 30; seed++) {
        bp_config_t config = pair_config();
        config.send_high = 100000;
        config.send_low = 1000;
        config.send_max = 200000;
        start_with(config);
        pair.link.bytes_per_s = 4 << 20;
        model_t model = {seed * 7919, 0, 0};
        for (int step = 0; step < 400; step++) {
            uint64_t choice = pair_random(&model.state) % 8;
            if (choice < 3) {
                build_and_commit(&model, true);
            } else if (choice < 4) {
                build_and_commit(&model, false);
            } else if (choice < 6) {
                write_whole(&model);
            } else {
                pair_run(&pair, pair_random(&model.state) % (4 * PAIR_MS));
            }
        }
        CHECK(bp_stream_write(engine(), stream, NULL, 0, 1) >= 0);
        pair_run(&pair, 10 * PAIR_SECOND);
        pair_stream_t *far = pair_stream_by_id(&pair, 1, 2);
        CHECK(far != NULL && far->fins == 1);
        CHECK_EQUAL(far->received, model.length);
        CHECK(far->hash == model.hash);
        CHECK(model.length > 100000);
        pair_free(&pair);
    }
}

static void
a_place_beyond_the_maximum_is_refused_and_what_was_lent_before_stays(void)
{
    uint8_t *place = NULL;
    bp_config_t config = pair_config();
    config.send_high = 1000;
    config.send_low = 100;
    config.send_max = 2000;
    start_with(config);
    CHECK_EQUAL(bp_stream_reserve(engine(), stream, 0, 2001, &place), BP_E_FULL);
    CHECK_EQUAL(bp_stream_reserve(engine(), stream, 0, SIZE_MAX, &place), BP_E_FULL);
    CHECK_EQUAL(bp_stream_reserve(engine(), stream, 0, 2000, &place), BP_OK);
    memset(place, 'a', 2000);
    CHECK_EQUAL(bp_stream_reserve(engine(), stream, 2000, 1, &place), BP_E_FULL);
    CHECK_EQUAL(bp_stream_reserve(engine(), stream, SIZE_MAX, 2, &place), BP_E_FULL);
    CHECK(place[0] == 'a' && place[1999] == 'a');
    CHECK_EQUAL(bp_stream_commit(engine(), stream, 2000, 1), 0);
    CHECK_EQUAL(bp_stream_reserve(engine(), stream, 0, 0, &place), BP_E_STATE);
    pair_run(&pair, PAIR_SECOND);
    CHECK_EQUAL(pair_stream_by_id(&pair, 1, 2)->received, 2000);
    pair_free(&pair);
}

/* The contract says what a caller must not do; the buffer survives it all the same. */
static void
more_than_was_lent_cannot_be_kept_or_committed(void)
{
    uint8_t *place = NULL;
    start_with(pair_config());
    CHECK_EQUAL(bp_stream_commit(engine(), stream, 1, 0), BP_E_ARGUMENT);
    CHECK_EQUAL(bp_stream_reserve(engine(), stream, 1, 1, &place), BP_E_ARGUMENT);
    CHECK_EQUAL(bp_stream_reserve(engine(), stream, 0, 100, &place), BP_OK);
    CHECK_EQUAL(bp_stream_commit(engine(), stream, 100000, 0), BP_E_ARGUMENT);
    CHECK_EQUAL(bp_stream_reserve(engine(), stream, 100000, 1, &place), BP_E_ARGUMENT);
    CHECK_EQUAL(bp_stream_queued(engine(), stream), 0);
    CHECK_EQUAL(bp_stream_reset(engine(), stream, 1), BP_OK);
    CHECK_EQUAL(bp_stream_commit(engine(), stream, 0, 1), BP_E_STATE);
    pair_free(&pair);
}

static void
a_nearly_full_queue_is_moved_for_every_few_of_its_bytes_only(void)
{
    enum { ROUNDS = 200, PIECE = 512, PIECES = 16, LIVE = (1 << 20) - 2048 };
    static uint8_t block[LIVE];
    bp_config_t config = pair_config();
    config.stream_window_first = 1 << 14;
    config.stream_window = 1 << 14;
    config.send_max = 2 << 20;
    start_with(config);
    pair.sides[1].reading = false;
    CHECK(bp_stream_write(engine(), stream, block, LIVE, 0) >= 0);
    pair_run(&pair, PAIR_SECOND);
    uint64_t moved = 0;
    uint64_t far = pair_stream_by_id(&pair, 1, 2)->handle;
    for (int round = 0; round < ROUNDS; round++) {
        const uint8_t *next = NULL;
        for (int i = 0; i < PIECES; i++) {
            uint8_t *place = NULL;
            CHECK_EQUAL(bp_stream_reserve(engine(), stream, 0, PIECE, &place), BP_OK);
            memset(place, i, PIECE);
            moved += next != NULL && place != next
                         ? (uint64_t)bp_stream_queued(engine(), stream)
                         : 0;
            CHECK(bp_stream_commit(engine(), stream, PIECE, 0) >= 0);
            next = place + PIECE;
        }
        CHECK_EQUAL(bp_stream_consumed(pair.sides[1].engine, far, PIECE * PIECES), BP_OK);
        pair_run(&pair, 50 * PAIR_MS);
    }
    CHECK(moved <= UINT64_C(4) * ROUNDS * PIECES * PIECE);
    pair_free(&pair);
}

int
main(void)
{
    RUN(any_mixture_of_lending_writing_and_sending_arrives_as_a_plain_queue_would);
    RUN(a_place_beyond_the_maximum_is_refused_and_what_was_lent_before_stays);
    RUN(more_than_was_lent_cannot_be_kept_or_committed);
    RUN(a_nearly_full_queue_is_moved_for_every_few_of_its_bytes_only);
    return 0;
}
