/* Bind picoquic from a shared object, by name. */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "engine.h"
#include "picoquic_symbols.h"

static bp_picoquic_t table;
static int loaded;

/* ISO C has no conversion from object to function pointer; POSIX promises this one works. */
static int
resolve(void *library, const char *name, void *slot)
{
    void *symbol = dlsym(library, name);
    memcpy(slot, &symbol, sizeof(symbol));
    return symbol != NULL;
}

int
bp_picoquic_load(const char *path, char *message, size_t message_size)
{
    /* Never closed: engines keep pointers into it, and OpenSSL registers exit handlers. */
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) {
        (void)snprintf(message, message_size, "%s", dlerror());
        return BP_E_LIBRARY;
    }
    bp_picoquic_t found;
#define RESOLVE(result, name, parameters)                                                      \
    if (!resolve(library, #name, &found.name)) {                                               \
        (void)snprintf(message, message_size, "%s has no symbol %s", path, #name);             \
        return BP_E_LIBRARY;                                                                   \
    }
    BP_PICOQUIC_SYMBOLS(RESOLVE)
#undef RESOLVE
    table = found;
    loaded = 1;
    return BP_OK;
}

const void *
bp_picoquic_table(void)
{
    return loaded ? &table : NULL;
}
