/* The binding to a picoquic that is linked in: for ctest, sanitizers and fuzzers. */
#include "picoquic_symbols.h"

#define DECLARE(result, name, parameters) extern result name parameters;
BP_PICOQUIC_SYMBOLS(DECLARE)
#undef DECLARE

const bp_picoquic_t *
bp_picoquic_static(void)
{
#define FILL(result, name, parameters) .name = name,
    static const bp_picoquic_t table = {BP_PICOQUIC_SYMBOLS(FILL)};
#undef FILL
    return &table;
}
