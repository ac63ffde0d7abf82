#include "codec/xxh64.h"

#include "check.h"

#include <stdlib.h>

/* What every implementation of XXH64 makes of the bytes 0, 1, 2, ... with seed 0. */
typedef struct {
    size_t n;
    uint64_t hash;
} row_t;

static const row_t rows[] = {
    {0, 0xef46db3751d8e999u},   {1, 0xe934a84adb052768u},    {3, 0xe5c7bb4533bc65ddu},
    {4, 0xffced8604453cc1eu},   {7, 0x14cc643f630c72d2u},    {8, 0x884a173614b81b8du},
    {12, 0x424af23f1f08dca5u},  {31, 0xc346d2b59b4d8ee1u},   {32, 0xcbf59c5116ff32b4u},
    {33, 0x0c535d1acafb8eadu},  {36, 0xdde0ef85e3aef05cu},   {63, 0xe26aa9e2a95f8e4fu},
    {64, 0xf7c67301db6713f0u},  {71, 0x2ebffc96eb139d60u},   {100, 0x6ac1e58032166597u},
    {256, 0x1facbe8406cd904bu}, {1237, 0x16885cbf4c1af114u},
};

static void
hashes_are_those_of_every_other_implementation(void)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        /* A heap block of exactly n bytes, so that a sanitizer sees any read beside it. */
        uint8_t *p = malloc(rows[i].n > 0 ? rows[i].n : 1);
        CHECK(p != NULL);
        for (size_t j = 0; j < rows[i].n; j++) {
            p[j] = (uint8_t)j;
        }
        CHECK(bp_xxh64(p, rows[i].n) == rows[i].hash);
        free(p);
    }
}

static void
no_bytes_need_no_pointer(void)
{
    CHECK(bp_xxh64(NULL, 0) == rows[0].hash);
}

int
main(void)
{
    RUN(hashes_are_those_of_every_other_implementation);
    RUN(no_bytes_need_no_pointer);
    return 0;
}
