#include "codec/frame.h"

#include "check.h"

#include <string.h>

#define LENGTH_MAX 100000u

static size_t
write_frame(uint8_t *out, uint8_t kind, uint8_t fill, size_t body_bytes)
{
    bp_frame_write_header(out, kind, (uint8_t)~kind, body_bytes);
    memset(out + BP_FRAME_HEADER_BYTES, fill, body_bytes);
    return BP_FRAME_HEADER_BYTES + body_bytes;
}

static void
check_frame(const bp_frame_t *frame, uint8_t kind, uint8_t fill, size_t body_bytes)
{
    CHECK_EQUAL(frame->kind, kind);
    CHECK_EQUAL(frame->flags, (uint8_t)~kind);
    CHECK_EQUAL(frame->body_bytes, body_bytes);
    for (size_t i = 0; i < body_bytes; i++) {
        CHECK_EQUAL(frame->body[i], fill);
    }
}

static void
a_whole_frame_is_lent_from_its_chunk(void)
{
    uint8_t chunk[64];
    size_t size = write_frame(chunk, 7, 'x', 10);
    const uint8_t *pos = chunk;
    bp_frame_t frame;
    bp_splitter_t s;
    bp_splitter_init(&s, LENGTH_MAX);
    CHECK_EQUAL(bp_splitter_next(&s, &pos, chunk + size, &frame), BP_FRAME_READY);
    check_frame(&frame, 7, 'x', 10);
    CHECK(frame.body == chunk + BP_FRAME_HEADER_BYTES);
    CHECK(pos == chunk + size);
    CHECK_EQUAL(bp_splitter_next(&s, &pos, chunk + size, &frame), BP_FRAME_NONE);
    CHECK(s.carry == NULL);
    bp_splitter_clear(&s);
}

/* Each chunk is a heap block of its exact size, so that ASan sees any stray access. */
static int
feed_copy(bp_splitter_t *s, const uint8_t *bytes, size_t size, bp_frame_t *frame, size_t *used)
{
    uint8_t *chunk = malloc(size);
    CHECK(chunk != NULL);
    memcpy(chunk, bytes, size);
    const uint8_t *pos = chunk;
    int status = bp_splitter_next(s, &pos, chunk + size, frame);
    *used = (size_t)(pos - chunk);
    free(chunk);
    return status;
}

static void
a_frame_torn_at_any_two_places_arrives_whole(void)
{
    uint8_t bytes[32];
    size_t size = write_frame(bytes, 9, 'y', 13);
    for (size_t first = 1; first < size - 1; first++) {
        for (size_t second = first + 1; second < size; second++) {
            bp_splitter_t s;
            bp_frame_t frame;
            size_t used;
            bp_splitter_init(&s, LENGTH_MAX);
            CHECK_EQUAL(feed_copy(&s, bytes, first, &frame, &used), BP_FRAME_NONE);
            CHECK_EQUAL(used, first);
            CHECK_EQUAL(feed_copy(&s, bytes + first, second - first, &frame, &used),
                        BP_FRAME_NONE);
            CHECK_EQUAL(used, second - first);
            CHECK_EQUAL(feed_copy(&s, bytes + second, size - second, &frame, &used),
                        BP_FRAME_READY);
            CHECK_EQUAL(used, size - second);
            check_frame(&frame, 9, 'y', 13);
            bp_splitter_clear(&s);
        }
    }
}

static void
a_torn_frame_leaves_the_rest_of_its_chunk(void)
{
    uint8_t bytes[64];
    size_t first = write_frame(bytes, 1, 'a', 8);
    size_t size = first + write_frame(bytes + first, 2, 'b', 8);
    bp_splitter_t s;
    bp_frame_t frame;
    bp_splitter_init(&s, LENGTH_MAX);
    const uint8_t *pos = bytes;
    CHECK_EQUAL(bp_splitter_next(&s, &pos, bytes + 5, &frame), BP_FRAME_NONE);
    CHECK_EQUAL(bp_splitter_next(&s, &pos, bytes + size, &frame), BP_FRAME_READY);
    check_frame(&frame, 1, 'a', 8);
    CHECK(pos == bytes + first);
    CHECK_EQUAL(bp_splitter_next(&s, &pos, bytes + size, &frame), BP_FRAME_READY);
    check_frame(&frame, 2, 'b', 8);
    CHECK(frame.body == bytes + first + BP_FRAME_HEADER_BYTES);
    CHECK_EQUAL(bp_splitter_next(&s, &pos, bytes + size, &frame), BP_FRAME_NONE);
    bp_splitter_clear(&s);
}

static void
check_refused(uint32_t length, int error)
{
    uint8_t bytes[4] = {(uint8_t)(length >> 24), (uint8_t)(length >> 16),
                        (uint8_t)(length >> 8), (uint8_t)length};
    for (size_t torn_at = 0; torn_at < 4; torn_at++) {
        bp_splitter_t s;
        bp_frame_t frame;
        bp_splitter_init(&s, LENGTH_MAX);
        const uint8_t *pos = bytes;
        CHECK_EQUAL(bp_splitter_next(&s, &pos, bytes + torn_at, &frame), BP_FRAME_NONE);
        CHECK_EQUAL(bp_splitter_next(&s, &pos, bytes + 4, &frame), error);
        CHECK_EQUAL(s.announced, length);
        CHECK_EQUAL(s.capacity, 0);

        uint8_t good[16];
        size_t size = write_frame(good, 1, 'g', 4);
        pos = good;
        CHECK_EQUAL(bp_splitter_next(&s, &pos, good + size, &frame), error);
        CHECK(pos == good);
        bp_splitter_clear(&s);
    }
}

static void
a_wrong_length_is_refused_from_its_four_bytes_for_good(void)
{
    check_refused(0, BP_E_FRAME_SHORT);
    check_refused(1, BP_E_FRAME_SHORT);
    check_refused(LENGTH_MAX + 1, BP_E_FRAME_LIMIT);
    check_refused(0x7fffffffu, BP_E_FRAME_LIMIT);
    check_refused(0x80000000u, BP_E_FRAME_LIMIT);
    check_refused(0xfffffffeu, BP_E_FRAME_LIMIT);
    check_refused(0xffffffffu, BP_E_FRAME_LIMIT);
}

static void
the_smallest_and_the_greatest_length_pass(void)
{
    size_t bodies[2] = {0, LENGTH_MAX - BP_FRAME_LENGTH_MIN};
    uint8_t *bytes = malloc(LENGTH_MAX + BP_FRAME_LENGTH_BYTES);
    CHECK(bytes != NULL);
    for (size_t i = 0; i < 2; i++) {
        size_t size = write_frame(bytes, 3, 'z', bodies[i]);
        bp_splitter_t s;
        bp_frame_t frame;
        bp_splitter_init(&s, LENGTH_MAX);
        const uint8_t *pos = bytes;
        CHECK_EQUAL(bp_splitter_next(&s, &pos, bytes + size, &frame), BP_FRAME_READY);
        check_frame(&frame, 3, 'z', bodies[i]);
        bp_splitter_clear(&s);
    }
    free(bytes);
}

static void
the_carry_grows_with_received_bytes_and_is_given_back(void)
{
    uint8_t *bytes = malloc(LENGTH_MAX + BP_FRAME_LENGTH_BYTES);
    CHECK(bytes != NULL);
    size_t size = write_frame(bytes, 5, 'q', LENGTH_MAX - BP_FRAME_LENGTH_MIN);
    bp_splitter_t s;
    bp_frame_t frame;
    bp_splitter_init(&s, LENGTH_MAX);
    const uint8_t *pos = bytes;
    for (size_t received = 1; received < size; received++) {
        CHECK_EQUAL(bp_splitter_next(&s, &pos, bytes + received, &frame), BP_FRAME_NONE);
        CHECK(s.capacity <= 2 * received || s.capacity <= BP_FRAME_CARRY_MIN);
        CHECK(s.capacity <= LENGTH_MAX + BP_FRAME_LENGTH_BYTES);
    }
    CHECK_EQUAL(bp_splitter_next(&s, &pos, bytes + size, &frame), BP_FRAME_READY);
    check_frame(&frame, 5, 'q', LENGTH_MAX - BP_FRAME_LENGTH_MIN);
    CHECK_EQUAL(bp_splitter_next(&s, &pos, bytes + size, &frame), BP_FRAME_NONE);
    CHECK_EQUAL(s.capacity, 0);
    bp_splitter_clear(&s);
    free(bytes);
}

static void
an_ended_splitter_keeps_its_first_error(void)
{
    uint8_t bytes[8] = {0, 0, 0, 0};
    const uint8_t *pos = bytes;
    bp_frame_t frame;
    bp_splitter_t s;
    bp_splitter_init(&s, LENGTH_MAX);
    CHECK_EQUAL(bp_splitter_next(&s, &pos, bytes + 2, &frame), BP_FRAME_NONE);
    bp_splitter_refuse(&s, BP_E_FRAME_MEMORY);
    CHECK_EQUAL(s.capacity, 0);
    bp_splitter_refuse(&s, BP_E_FRAME_LIMIT);
    CHECK_EQUAL(bp_splitter_next(&s, &pos, bytes + 4, &frame), BP_E_FRAME_MEMORY);
}

int
main(void)
{
    RUN(a_whole_frame_is_lent_from_its_chunk);
    RUN(a_frame_torn_at_any_two_places_arrives_whole);
    RUN(a_torn_frame_leaves_the_rest_of_its_chunk);
    RUN(a_wrong_length_is_refused_from_its_four_bytes_for_good);
    RUN(the_smallest_and_the_greatest_length_pass);
    RUN(the_carry_grows_with_received_bytes_and_is_given_back);
    RUN(an_ended_splitter_keeps_its_first_error);
    return 0;
}
