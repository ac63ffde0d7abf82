/*
 * Run a fuzz target once over every file of a corpus folder, without libFuzzer, so that
 * what a fuzzer once reached stays covered by each ctest under any compiler.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define INPUT_BYTES_MAX (1u << 20)
#define PATH_BYTES_MAX 4096u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int
replay_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        return 1;
    }
    uint8_t *data = malloc(INPUT_BYTES_MAX);
    size_t size = data == NULL ? 0 : fread(data, 1, INPUT_BYTES_MAX, file);
    fclose(file);

    /* The target gets a block of the exact size: ASan then sees a read past its end. */
    uint8_t *exact = malloc(size > 0 ? size : 1);
    if (data == NULL || exact == NULL) {
        fprintf(stderr, "replay: out of memory\n");
        free(data);
        free(exact);
        return 1;
    }
    memcpy(exact, data, size);
    free(data);
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
    return 0;
}

int
main(int argc, char **argv)
{
    DIR *folder = argc == 2 ? opendir(argv[1]) : NULL;
    if (folder == NULL) {
        fprintf(stderr, "replay: needs one folder, readable\n");
        return 1;
    }
    int failed = 0;
    unsigned count = 0;
    for (struct dirent *entry = readdir(folder); entry != NULL; entry = readdir(folder)) {
        char path[PATH_BYTES_MAX];
        int length = snprintf(path, sizeof path, "%s/%s", argv[1], entry->d_name);
        if (entry->d_name[0] == '.') {
            continue;
        }
        if (length < 0 || (size_t)length >= sizeof path) {
            fprintf(stderr, "replay: path too long: %s\n", entry->d_name);
            failed = 1;
            continue;
        }
        failed |= replay_file(path);
        count++;
    }
    closedir(folder);
    fprintf(stderr, "replayed %u files\n", count);
    return failed || count == 0;
}
