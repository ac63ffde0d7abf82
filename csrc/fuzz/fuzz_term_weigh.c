/*
 * Weighing under any bytes: it reads nothing outside them, ends where a plain recursive
 * reader ends, and its memory stays in proportion.
 */
#include "codec/term.h"
#include "codec/term_weigh.h"
#include "codec/words.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* A byte of a whole term weighs no more, even where members are no valid ones. */
#define DENSITY_MAX 256u

static void
require(int condition)
{
    if (!condition) {
        abort();
    }
}

/* Where the value at `at` ends, or 0: the reference, with the counts taken on trust. */
static size_t end_of(const uint8_t *data, size_t size, size_t at, unsigned depth);

static size_t
end_of_all(const uint8_t *data, size_t size, size_t at, uint64_t count, unsigned depth)
{
    for (uint64_t i = 0; i < count && at != 0; i++) {
        at = end_of(data, size, at, depth);
    }
    return at;
}

static size_t
skip(size_t size, size_t at, uint64_t bytes)
{
    return at <= size && bytes <= size - at ? at + (size_t)bytes : 0;
}

/* The node name of a pid or reference that starts at `at`, and `fixed` bytes after it. */
static size_t
end_of_address(const uint8_t *data, size_t size, size_t at, uint64_t fixed)
{
    static const uint8_t atoms[] = {BP_TAG_ATOM, BP_TAG_SMALL_ATOM, BP_TAG_ATOM_UTF8,
                                    BP_TAG_SMALL_ATOM_UTF8};
    if (at >= size || memchr(atoms, data[at], sizeof atoms) == NULL) {
        return 0;
    }
    at = end_of(data, size, at, 0);
    return at == 0 ? 0 : skip(size, at, fixed);
}

static size_t
end_of(const uint8_t *data, size_t size, size_t at, unsigned depth)
{
    if (at >= size || depth > 1000) {
        return 0;
    }
    const uint8_t *p = data + at;
    size_t left = size - at;
    uint64_t one = left >= 2 ? p[1] : 0;
    uint64_t two = left >= 3 ? bp_get16(p + 1) : 0;
    uint64_t four = left >= 5 ? bp_get32(p + 1) : 0;
    size_t after_two = skip(size, at, 2);
    size_t after_three = skip(size, at, 3);
    size_t after_five = skip(size, at, 5);
    switch (p[0]) {
    case BP_TAG_NIL:
        return at + 1;
    case BP_TAG_SMALL_INTEGER:
        return after_two;
    case BP_TAG_INTEGER:
        return after_five;
    case BP_TAG_NEW_FLOAT:
        return skip(size, at, 9);
    case BP_TAG_SMALL_ATOM:
    case BP_TAG_SMALL_ATOM_UTF8:
    case BP_TAG_SMALL_STR:
        return after_two ? skip(size, after_two, one) : 0;
    case BP_TAG_SMALL_BIG:
        return after_two ? skip(size, after_two, one + 1) : 0;
    case BP_TAG_ATOM:
    case BP_TAG_ATOM_UTF8:
    case BP_TAG_STRING:
        return after_three ? skip(size, after_three, two) : 0;
    case BP_TAG_BINARY:
    case BP_TAG_STR:
        return after_five ? skip(size, after_five, four) : 0;
    case BP_TAG_LARGE_BIG:
        return after_five ? skip(size, after_five, four + 1) : 0;
    case BP_TAG_NEW_PID:
        return end_of_address(data, size, at + 1, 12);
    case BP_TAG_NEWER_REFERENCE:
        return after_three ? end_of_address(data, size, after_three, 4 + 4 * two) : 0;
    case BP_TAG_SMALL_TUPLE:
        return after_two ? end_of_all(data, size, after_two, one, depth + 1) : 0;
    case BP_TAG_LARGE_TUPLE:
    case BP_TAG_SET:
    case BP_TAG_FROZENSET:
        return after_five ? end_of_all(data, size, after_five, four, depth + 1) : 0;
    case BP_TAG_LIST:
        return after_five ? end_of_all(data, size, after_five, four + 1, depth + 1) : 0;
    case BP_TAG_MAP:
        return after_five ? end_of_all(data, size, after_five, 2 * four, depth + 1) : 0;
    default:
        return 0;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *exact = malloc(size > 0 ? size : 1);
    require(exact != NULL);
    memcpy(exact, data, size);
    bp_term_weight_t weight;
    int status = bp_term_weigh(exact, size, &weight);
    size_t end = end_of(exact, size, 0, 0);
    require(weight.offset <= size);
    require(weight.nodes <= size);
    require(status <= BP_TERM_OK);
    require(status != BP_TERM_OK || weight.memory <= DENSITY_MAX * (uint64_t)size);
    if (end != 0) {
        require(status == BP_TERM_OK && weight.offset == end);
    }
    free(exact);
    return 0;
}
