#include "codec/term_weigh.h"

#include "check.h"
#include "codec/term.h"

#include <string.h>

#define WEIGH(bytes, weight) weigh((const uint8_t *)(bytes), sizeof(bytes) - 1, weight)

static int
weigh(const uint8_t *data, size_t size, bp_term_weight_t *weight)
{
    int status = bp_term_weigh(data, size, weight);
    CHECK(weight->offset <= size);
    return status;
}

static void
containers_weigh_what_cpython_makes_of_them(void)
{
    bp_term_weight_t w;
    CHECK_EQUAL(WEIGH("j", &w), BP_TERM_OK);
    CHECK_EQUAL(w.memory, 56);
    CHECK_EQUAL(WEIGH("l\0\0\0\2jjj", &w), BP_TERM_OK);
    CHECK_EQUAL(w.memory, 3 * 56 + 2 * 8);
    CHECK_EQUAL(WEIGH("h\0", &w), BP_TERM_OK);
    CHECK_EQUAL(w.memory, 0);
    CHECK_EQUAL(WEIGH("h\2a\1a\2", &w), BP_TERM_OK);
    CHECK_EQUAL(w.memory, 40 + 16);
    CHECK_EQUAL(WEIGH("t\0\0\0\0", &w), BP_TERM_OK);
    CHECK_EQUAL(w.memory, 64);
    CHECK_EQUAL(WEIGH("t\0\0\0\1a\1a\1", &w), BP_TERM_OK);
    CHECK_EQUAL(w.memory, 64 + 32 + 8 + 5 * 24);
    CHECK_EQUAL(WEIGH("t\0\0\0\1\xe0\1ka\1", &w), BP_TERM_OK);
    CHECK_EQUAL(w.memory, 64 + 32 + 8 + 5 * 16 + 49);
    CHECK_EQUAL(WEIGH("\xe2\0\0\0\1a\1", &w), BP_TERM_OK);
    CHECK_EQUAL(w.memory, 216);
}

static void
values_without_objects_of_their_own_weigh_nothing(void)
{
    bp_term_weight_t w;
    CHECK_EQUAL(WEIGH("h\5a\0w\4truew\5falsew\x09undefinedm\0\0\0\0", &w), BP_TERM_OK);
    CHECK_EQUAL(w.memory, 40 + 5 * 8);
    CHECK_EQUAL(w.nodes, 6);
    CHECK_EQUAL(WEIGH("w\4tru\x65", &w), BP_TERM_OK);
    CHECK_EQUAL(WEIGH("w\4trui", &w), BP_TERM_OK);
    CHECK(w.memory > 0);
}

static void
text_weighs_by_its_widest_character(void)
{
    bp_term_weight_t narrow;
    bp_term_weight_t wide;
    bp_term_weight_t widest;
    CHECK_EQUAL(WEIGH("\xe0\x08"
                      "abcdefgh",
                      &narrow),
                BP_TERM_OK);
    CHECK_EQUAL(WEIGH("\xe0\x08"
                      "abcde\xe2\x82\xac",
                      &wide),
                BP_TERM_OK);
    CHECK_EQUAL(WEIGH("\xe0\x08"
                      "abcd\xf0\x9f\x98\x80",
                      &widest),
                BP_TERM_OK);
    CHECK(narrow.memory < wide.memory && wide.memory < widest.memory);
}

static void
a_term_ends_where_its_last_node_ends(void)
{
    bp_term_weight_t w;
    CHECK_EQUAL(WEIGH("h\2h\1a\1a\2trailing", &w), BP_TERM_OK);
    CHECK_EQUAL(w.offset, 8);
    CHECK_EQUAL(w.nodes, 4);
    CHECK_EQUAL(WEIGH("Xw\3a@h\0\0\0\1\0\0\0\2\0\0\0\3", &w), BP_TERM_OK);
    CHECK_EQUAL(w.offset, 18);
    CHECK_EQUAL(WEIGH("Z\0\1w\3a@h\0\0\0\1\0\0\0\2", &w), BP_TERM_OK);
    CHECK_EQUAL(w.offset, 16);
}

static void
every_truncation_is_short(void)
{
    static const char term[] =
        "l\0\0\0\6Xd\0\3a@h\0\0\0\1\0\0\0\2\0\0\0\3F\0\0\0\0\0\0\0\0n\2\0ab"
        "o\0\0\0\1\1ak\0\1x\xe1\0\0\0\1yj";
    bp_term_weight_t w;
    CHECK_EQUAL(WEIGH(term, &w), BP_TERM_OK);
    for (size_t size = 0; size + 1 < sizeof term; size++) {
        int status = weigh((const uint8_t *)term, size, &w);
        CHECK(status == BP_E_TERM_SHORT || status == BP_E_TERM_COUNT);
    }
}

static void
a_count_is_believed_as_far_as_bytes_are_left(void)
{
    bp_term_weight_t w;
    CHECK_EQUAL(WEIGH("i\xff\xff\xff\xffjj", &w), BP_E_TERM_COUNT);
    CHECK_EQUAL(w.offset, 0);
    CHECK(w.count == 0xffffffffu);
    CHECK_EQUAL(WEIGH("h\2h\3jjj", &w), BP_E_TERM_COUNT);
    CHECK_EQUAL(w.offset, 2);
    CHECK_EQUAL(WEIGH("h\2h\2jjj", &w), BP_TERM_OK);
    CHECK_EQUAL(WEIGH("t\0\0\0\2jjj", &w), BP_E_TERM_COUNT);
}

static void
other_tags_are_refused_where_they_stand(void)
{
    bp_term_weight_t w;
    CHECK_EQUAL(WEIGH("h\1P\0\0\0\0", &w), BP_E_TERM_TAG);
    CHECK_EQUAL(w.offset, 2);
    CHECK_EQUAL(WEIGH("\x83", &w), BP_E_TERM_TAG);
}

static void
large_tables_count_with_what_their_growth_takes(void)
{
    uint64_t late = bp_term_late_memory(100000);
    CHECK_EQUAL(bp_term_late_memory(10), 5 * 24 - 5 * 16 + 5 * 8);
    CHECK(late > 100000 * 16 && late < 100000 * 48);
}

int
main(void)
{
    RUN(containers_weigh_what_cpython_makes_of_them);
    RUN(values_without_objects_of_their_own_weigh_nothing);
    RUN(text_weighs_by_its_widest_character);
    RUN(a_term_ends_where_its_last_node_ends);
    RUN(every_truncation_is_short);
    RUN(a_count_is_believed_as_far_as_bytes_are_left);
    RUN(other_tags_are_refused_where_they_stand);
    RUN(large_tables_count_with_what_their_growth_takes);
    return 0;
}
