/*
 * What may befall a process at its disk, for LD_PRELOAD. Calls that write to regular
 * files are counted once fault_arm was called; at the one that is asked for, the process
 * is killed before it, or in the midst of it, or the call fails.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum { OFF, KILL, TEAR, FAIL, FAIL_ON, SWALLOW };
enum { WRITES = 1, FLUSHES = 2, NAMES = 4, DIRECTORIES = 8 };

static int armed = OFF;
static int armed_kinds;
static int armed_errno;
static long armed_at;
static long counted;

void fault_arm(long at, int action, int kinds, int error);
long fault_count(void);

void
fault_arm(long at, int action, int kinds, int error)
{
    armed_at = at;
    armed_kinds = kinds;
    armed_errno = error;
    __atomic_store_n(&counted, 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&armed, action, __ATOMIC_SEQ_CST);
}

long
fault_count(void)
{
    return __atomic_load_n(&counted, __ATOMIC_SEQ_CST);
}

static void
die(void)
{
    kill(getpid(), SIGKILL);
    for (;;) {
        pause();
    }
}

/* Whether the call is to fail; KILL does not return, TEAR is left to writes. */
static int
hit(int kind)
{
    int action = __atomic_load_n(&armed, __ATOMIC_SEQ_CST);
    long at;

    if (action == OFF || !(armed_kinds & kind)) {
        return OFF;
    }
    at = __atomic_add_fetch(&counted, 1, __ATOMIC_SEQ_CST);
    if (action == SWALLOW) {
        return SWALLOW;
    }
    if (at != armed_at && !(action == FAIL_ON && at > armed_at)) {
        return OFF;
    }
    if (action == KILL || (action == TEAR && kind != WRITES)) {
        die();
    }
    errno = armed_errno;
    return action;
}

static int
is_file(int fd)
{
    struct stat found;
    return fstat(fd, &found) == 0 && S_ISREG(found.st_mode);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t
write(int fd, const void *data, size_t n)
{
    int action = is_file(fd) ? hit(WRITES) : OFF;
    if (action == TEAR) {
        (void)!REAL(write)(fd, data, n / 2);
        die();
    }
    return action == OFF ? REAL(write)(fd, data, n) : -1;
}

ssize_t
pwrite(int fd, const void *data, size_t n, off_t at)
{
    int action = is_file(fd) ? hit(WRITES) : OFF;
    if (action == TEAR) {
        (void)!REAL(pwrite)(fd, data, n / 2, at);
        die();
    }
    return action == OFF ? REAL(pwrite)(fd, data, n, at) : -1;
}

ssize_t
pwrite64(int fd, const void *data, size_t n, off64_t at)
{
    return pwrite(fd, data, n, (off_t)at);
}

int
fsync(int fd)
{
    int action = hit(is_file(fd) ? FLUSHES : DIRECTORIES);
    if (action == SWALLOW) {
        return 0;
    }
    return action == OFF ? REAL(fsync)(fd) : -1;
}

int
fdatasync(int fd)
{
    int action = hit(is_file(fd) ? FLUSHES : DIRECTORIES);
    if (action == SWALLOW) {
        return 0;
    }
    return action == OFF ? REAL(fdatasync)(fd) : -1;
}

int
ftruncate(int fd, off_t n)
{
    int action = hit(WRITES);
    if (action == TEAR) {
        die();
    }
    return action == OFF ? REAL(ftruncate)(fd, n) : -1;
}

int
ftruncate64(int fd, off64_t n)
{
    return ftruncate(fd, (off_t)n);
}

int
rename(const char *from, const char *to)
{
    return hit(NAMES) == OFF ? REAL(rename)(from, to) : -1;
}

int
renameat(int from_dir, const char *from, int to_dir, const char *to)
{
    return hit(NAMES) == OFF ? REAL(renameat)(from_dir, from, to_dir, to) : -1;
}

int
unlink(const char *path)
{
    return hit(NAMES) == OFF ? REAL(unlink)(path) : -1;
}

int
unlinkat(int dir, const char *path, int flags)
{
    return hit(NAMES) == OFF ? REAL(unlinkat)(dir, path, flags) : -1;
}
