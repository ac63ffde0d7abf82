/*
 * picoquic from a shared object does what the one linked in does: the same events at the
 * same virtual times. BARREL_PICOQUIC_SO names the object; the build makes it.
 */
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "engine_pair.h"
#include "quic/picoquic_symbols.h"

#define BYTES (UINT64_C(1) << 20)
#define NOTES_MAX 20000

typedef struct {
    uint64_t at_us;
    uint64_t stream_id;
    int side;
    uint16_t type;
    uint16_t flags;
} note_t;

typedef struct {
    note_t notes[NOTES_MAX];
    size_t count;
    uint64_t hash;
    uint64_t done_us;
} diary_t;

/* Two copies of every global variable are the point here. */
const char *__asan_default_options(void);
const char *
__asan_default_options(void)
{
    return "detect_odr_violation=0";
}

static void
note(pair_t *pair, int side, const bp_event_t *event, void *context)
{
    diary_t *diary = context;
    CHECK(diary->count < NOTES_MAX);
    diary->notes[diary->count++] = (note_t){.at_us = pair->now_us,
                                            .stream_id = event->stream_id,
                                            .side = side,
                                            .type = event->type,
                                            .flags = event->flags};
}

static bool
has_echo(pair_t *pair, void *context)
{
    const uint64_t *stream = context;
    return pair_stream(pair, 0, *stream)->fins == 1;
}

/* Connect, send a megabyte, have it sent back, close. */
static diary_t *
live(const void *picoquic)
{
    static pair_t pair;
    diary_t *diary = calloc(1, sizeof(*diary));
    CHECK(diary != NULL);
    bp_config_t config = pair_config();
    pair_init(&pair, 5);
    pair.link.loss = 50;
    pair.on_event = note;
    pair.context = diary;
    pair_add_from(&pair, 0, &config, picoquic);
    pair_add_from(&pair, 1, &config, picoquic);
    uint64_t client = pair_connect(&pair, 0, 1);
    uint64_t stream = pair_open(&pair, 0, client, 0);
    pair_send(&pair, 0, stream, BYTES, true);
    pair_run(&pair, 5 * PAIR_SECOND);
    pair_stream_t *far = pair_stream_by_id(&pair, 1, 0);
    CHECK(far != NULL && far->received == BYTES && far->fins == 1);
    pair_send(&pair, 1, far->handle, BYTES, true);
    CHECK(pair_until(&pair, 10 * PAIR_SECOND, has_echo, &stream));
    diary->done_us = pair.now_us;
    diary->hash = pair_stream(&pair, 0, stream)->hash;
    CHECK_EQUAL(bp_connection_close(pair.sides[0].engine, client, 3, "bye"), BP_OK);
    pair_run(&pair, PAIR_SECOND);
    pair_free(&pair);
    return diary;
}

static void
a_missing_file_or_symbol_is_named(void)
{
    char message[256];
    CHECK(bp_picoquic_table() == NULL);
    CHECK_EQUAL(bp_picoquic_load("/nonexistent/libpq.so", message, sizeof(message)),
                BP_E_LIBRARY);
    CHECK(strstr(message, "/nonexistent/libpq.so") != NULL);
    CHECK_EQUAL(bp_picoquic_load("libm.so.6", message, sizeof(message)), BP_E_LIBRARY);
    CHECK(strstr(message, "libm.so.6 has no symbol picoquic_create") != NULL);
    CHECK_EQUAL(bp_picoquic_load("/nonexistent/libpq.so", message, 5), BP_E_LIBRARY);
    CHECK(strlen(message) < 5);
    CHECK(bp_picoquic_table() == NULL);
}

static void
the_loaded_and_the_linked_library_live_the_same_life(void)
{
    char message[256] = "";
    int status = bp_picoquic_load(BARREL_PICOQUIC_SO, message, sizeof(message));
    if (status != BP_OK) {
        fprintf(stderr, "  %s\n", message);
    }
    CHECK_EQUAL(status, BP_OK);
    const bp_picoquic_t *loaded = bp_picoquic_table();
    CHECK(loaded != NULL && loaded->picoquic_create != bp_picoquic_static()->picoquic_create);

    diary_t *linked_life = live(bp_picoquic_static());
    diary_t *loaded_life = live(loaded);
    CHECK_EQUAL(linked_life->done_us, loaded_life->done_us);
    CHECK_EQUAL(linked_life->count, loaded_life->count);
    CHECK(linked_life->hash == loaded_life->hash);
    CHECK(linked_life->count > 100);
    for (size_t i = 0; i < linked_life->count; i++) {
        const note_t *a = &linked_life->notes[i];
        const note_t *b = &loaded_life->notes[i];
        CHECK_EQUAL(a->at_us, b->at_us);
        CHECK_EQUAL(a->side, b->side);
        CHECK_EQUAL(a->type, b->type);
        CHECK_EQUAL(a->flags, b->flags);
        CHECK_EQUAL(a->stream_id, b->stream_id);
    }
    fprintf(stderr, "  %zu events, echo after %llu ms\n", linked_life->count,
            (unsigned long long)((linked_life->done_us - PAIR_START_US) / PAIR_MS));
    free(linked_life);
    free(loaded_life);
}

int
main(void)
{
    RUN(a_missing_file_or_symbol_is_named);
    RUN(the_loaded_and_the_linked_library_live_the_same_life);
    return 0;
}
