/*
 * The whole test framework: CHECK ends the program with the place and the text of what
 * was false, RUN names the test that was running.
 */
#ifndef BP_TESTS_CHECK_H
#define BP_TESTS_CHECK_H

#include <stdio.h>
#include <stdlib.h>

#define CHECK(condition)                                                                       \
    do {                                                                                       \
        if (!(condition)) {                                                                    \
            fprintf(stderr, "%s:%d: false: %s\n", __FILE__, __LINE__, #condition);             \
            exit(1);                                                                           \
        }                                                                                      \
    } while (0)

#define CHECK_EQUAL(left, right)                                                               \
    do {                                                                                       \
        long long check_left = (long long)(left);                                              \
        long long check_right = (long long)(right);                                            \
        if (check_left != check_right) {                                                       \
            fprintf(stderr, "%s:%d: %s is %lld, not %lld\n", __FILE__, __LINE__, #left,        \
                    check_left, check_right);                                                  \
            exit(1);                                                                           \
        }                                                                                      \
    } while (0)

#define RUN(test)                                                                              \
    do {                                                                                       \
        fprintf(stderr, "%s\n", #test);                                                        \
        test();                                                                                \
    } while (0)

#endif
