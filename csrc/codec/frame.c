#include "codec/frame.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int
bp_frame_read_length(const uint8_t *bytes, uint32_t length_max, uint32_t *length)
{
    assert(bytes != NULL);
    assert(length != NULL);

    *length = (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 |
              (uint32_t)bytes[3];
    if (*length < BP_FRAME_LENGTH_MIN) {
        return BP_E_FRAME_SHORT;
    }
    return *length > length_max ? BP_E_FRAME_LIMIT : BP_FRAME_READY;
}

void
bp_splitter_init(bp_splitter_t *s, uint32_t length_max)
{
    assert(s != NULL);
    assert(length_max >= BP_FRAME_LENGTH_MIN);
    assert(length_max <= BP_FRAME_LENGTH_TOP);

    memset(s, 0, sizeof *s);
    s->length_max = length_max;
}

void
bp_splitter_clear(bp_splitter_t *s)
{
    free(s->carry);
    s->carry = NULL;
    s->carried = 0;
    s->capacity = 0;
    s->lent = 0;
}

void
bp_splitter_refuse(bp_splitter_t *s, int error)
{
    assert(error < 0);

    bp_splitter_clear(s);
    if (s->status == BP_FRAME_NONE) {
        s->status = error;
    }
}

/* Judge an announced length; a wrong one ends the splitter. */
static int
judge_length(bp_splitter_t *s, const uint8_t *bytes, uint32_t *length)
{
    int status = bp_frame_read_length(bytes, s->length_max, length);
    if (status < 0) {
        s->announced = *length;
        bp_splitter_refuse(s, status);
    }
    return status;
}

static int
reserve_carry(bp_splitter_t *s, size_t needed)
{
    if (needed <= s->capacity) {
        return BP_FRAME_READY;
    }
    size_t capacity =
        s->capacity > BP_FRAME_CARRY_MIN / 2 ? s->capacity * 2 : BP_FRAME_CARRY_MIN;
    size_t capacity_max = BP_FRAME_LENGTH_BYTES + (size_t)s->length_max;
    if (capacity > capacity_max) {
        capacity = capacity_max;
    }
    if (capacity < needed) {
        capacity = needed;
    }
    uint8_t *carry = realloc(s->carry, capacity);
    if (carry == NULL) {
        bp_splitter_refuse(s, BP_E_FRAME_MEMORY);
        return BP_E_FRAME_MEMORY;
    }
    s->carry = carry;
    s->capacity = capacity;
    return BP_FRAME_READY;
}

/* Carry bytes of the chunk until the frame has `goal` of them, or the chunk ends. */
static int
carry_until(bp_splitter_t *s, size_t goal, const uint8_t **pos, const uint8_t *end)
{
    assert(goal >= s->carried);

    size_t left = (size_t)(end - *pos);
    size_t missing = goal - s->carried;
    size_t taken = missing < left ? missing : left;
    if (taken == 0) {
        return missing == 0 ? BP_FRAME_READY : BP_FRAME_NONE;
    }
    int status = reserve_carry(s, s->carried + taken);
    if (status < 0) {
        return status;
    }
    memcpy(s->carry + s->carried, *pos, taken);
    s->carried += taken;
    *pos += taken;
    return s->carried == goal ? BP_FRAME_READY : BP_FRAME_NONE;
}

static void
lend(bp_frame_t *frame, const uint8_t *start, uint32_t length)
{
    frame->kind = start[4];
    frame->flags = start[5];
    frame->body = start + BP_FRAME_HEADER_BYTES;
    frame->body_bytes = length - BP_FRAME_LENGTH_MIN;
}

/* The torn frame: first its length, which is judged, then the rest. */
static int
gather(bp_splitter_t *s, const uint8_t **pos, const uint8_t *end, bp_frame_t *frame)
{
    if (s->carried < BP_FRAME_LENGTH_BYTES) {
        int whole = carry_until(s, BP_FRAME_LENGTH_BYTES, pos, end);
        if (whole != BP_FRAME_READY) {
            return whole;
        }
    }
    uint32_t length;
    int status = judge_length(s, s->carry, &length);
    if (status < 0) {
        return status;
    }
    status = carry_until(s, BP_FRAME_LENGTH_BYTES + (size_t)length, pos, end);
    if (status == BP_FRAME_READY) {
        s->lent = 1;
        lend(frame, s->carry, length);
    }
    return status;
}

static void
take_back(bp_splitter_t *s)
{
    s->lent = 0;
    s->carried = 0;
    if (s->capacity > BP_FRAME_CARRY_KEEP) {
        bp_splitter_clear(s);
    }
}

int
bp_splitter_next(bp_splitter_t *s, const uint8_t **pos, const uint8_t *end, bp_frame_t *frame)
{
    assert(s != NULL);
    assert(frame != NULL);
    assert(*pos <= end);

    if (s->status < 0) {
        return s->status;
    }
    if (s->lent) {
        take_back(s);
    }
    size_t left = (size_t)(end - *pos);
    if (left == 0) {
        return BP_FRAME_NONE;
    }
    if (s->carried > 0 || left < BP_FRAME_LENGTH_BYTES) {
        return gather(s, pos, end, frame);
    }
    uint32_t length;
    int status = judge_length(s, *pos, &length);
    if (status < 0) {
        return status;
    }
    if (left - BP_FRAME_LENGTH_BYTES < length) {
        return gather(s, pos, end, frame);
    }
    lend(frame, *pos, length);
    *pos += BP_FRAME_LENGTH_BYTES + (size_t)length;
    return BP_FRAME_READY;
}
