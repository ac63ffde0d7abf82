/* How much memory a program has allocated, with or without AddressSanitizer. */
#ifndef BP_TESTS_HEAP_H
#define BP_TESTS_HEAP_H

#include <stdint.h>

uint64_t heap_bytes(void);

#endif
