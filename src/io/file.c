/* file.c: files that are whole or not there.
 *
 * Invariants of a writer:
 *   (I1) until rename, path is not touched;
 *   (I2) rename comes after a successful fsync of all bytes;
 *   (I3) where the system can (O_TMPFILE), the new file has no name while it is written, so that a process killed at
 *        any moment leaves nothing behind; elsewhere it is called .NAME.tmp, always the same, and the next save of the
 *        same path replaces it.                                                                                     */
#include "io/file.h"
#include <attn/io.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { WRITE_MAX = 1 << 30 }; /* Linux writes at most 2 GiB a call, macOS fails above it */

static int call_open(const char *path, int flags, mode_t mode) { return open(path, flags, mode); }

static int call_link(int fd, const char *path) {
    char self[64];
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    return linkat(AT_FDCWD, self, AT_FDCWD, path, AT_SYMLINK_FOLLOW);
}

attn_file_calls attn_file_system = {call_open, write, fsync, close, call_link, rename, unlink};

static void writer_free(attn_writer *writer) {
    attn_release(writer->ctx, writer->path);
    attn_release(writer->ctx, writer->temporary);
    attn_release(writer->ctx, writer->folder);
}

/* path → folder and .NAME.tmp in it. */
static attn_status name_files(attn_writer *writer, const char *path) {
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    size_t prefix = (size_t)(name - path), length = strlen(name);
    if (!length) return attn_fail(writer->ctx, ATTN_E_ARGUMENT, "\"%s\": expected the name of a file", path);
    writer->path = attn_copy_text(writer->ctx, path, prefix + length);
    writer->folder = prefix ? attn_copy_text(writer->ctx, path, prefix) : attn_copy_text(writer->ctx, ".", 1);
    writer->temporary = attn_alloc(writer->ctx, prefix + length + sizeof "..tmp", 1);
    if (!writer->path || !writer->folder || !writer->temporary) return ATTN_E_NOMEM;
    snprintf(writer->temporary, prefix + length + sizeof "..tmp", "%.*s.%s.tmp", (int)prefix, path, name);
    return ATTN_OK;
}

attn_status attn_writer_open(attn_writer *writer, attn_context *ctx, const char *path) {
    *writer = (attn_writer){.ctx = ctx, .fd = -1};
    attn_status status = name_files(writer, path);
    if (status != ATTN_OK) {
        writer_free(writer);
        return status;
    }
#ifdef O_TMPFILE
    if (access("/proc/self/fd", X_OK) == 0)
        writer->fd = attn_file_system.open(writer->folder, O_TMPFILE | O_WRONLY | O_CLOEXEC, 0666);
#endif
    if (writer->fd < 0) { /* not a file system that can: a named file */
        if (attn_file_system.unlink(writer->temporary) != 0 && errno != ENOENT && errno != ENOTDIR)
            status = attn_fail_errno(ctx, writer->temporary, "cannot remove");
        if (status == ATTN_OK) {
            do writer->fd = attn_file_system.open(writer->temporary, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0666);
            while (writer->fd < 0 && errno == EINTR);
            if (writer->fd < 0) status = attn_fail_errno(ctx, path, "cannot create");
        }
        writer->named = status == ATTN_OK;
    }
    if (status != ATTN_OK) writer_free(writer);
    return status;
}

void attn_writer_put(attn_writer *writer, const void *data, size_t bytes) {
    const char *at = data;
    while (bytes && writer->status == ATTN_OK) {
        ssize_t n = attn_file_system.write(writer->fd, at, ATTN_MIN(bytes, (size_t)WRITE_MAX));
        if (n < 0 && errno == EINTR) continue;
        if (n == 0) errno = ENOSPC;
        if (n <= 0) {
            writer->status = attn_fail_errno(writer->ctx, writer->path, "cannot write");
            return;
        }
        at += n;
        bytes -= (size_t)n;
    }
}

static int sync_retry(int fd) {
    int rc;
    do rc = attn_file_system.fsync(fd);
    while (rc != 0 && errno == EINTR);
    return rc;
}

/* Gives a nameless file its temporary name. */
static attn_status link_temporary(attn_writer *writer) {
    if (writer->named) return ATTN_OK;
    int rc = attn_file_system.link(writer->fd, writer->temporary);
    if (rc != 0 && errno == EEXIST) { /* from a process that was killed between link and rename */
        if (attn_file_system.unlink(writer->temporary) == 0) rc = attn_file_system.link(writer->fd, writer->temporary);
    }
    if (rc != 0) return attn_fail_errno(writer->ctx, writer->path, "cannot name the new file");
    writer->named = true;
    return ATTN_OK;
}

static attn_status sync_folder(attn_writer *writer) {
    int fd;
    do fd = attn_file_system.open(writer->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    while (fd < 0 && errno == EINTR);
    if (fd < 0) return attn_fail_errno(writer->ctx, writer->folder, "cannot open the folder");
    attn_status status = ATTN_OK;
    /* Some file systems cannot sync a folder and say EINVAL; there is nothing more to do there. */
    if (sync_retry(fd) != 0 && errno != EINVAL && errno != ENOTSUP)
        status = attn_fail_errno(writer->ctx, writer->folder, "cannot sync the folder");
    attn_file_system.close(fd);
    return status;
}

attn_status attn_writer_close(attn_writer *writer) {
    attn_status status = writer->status;
    if (status == ATTN_OK && sync_retry(writer->fd) != 0)
        status = attn_fail_errno(writer->ctx, writer->path, "cannot sync");
    if (status == ATTN_OK) status = link_temporary(writer);
    /* The bytes are synced: what close says after that no longer matters, save EIO on network file systems. */
    if (attn_file_system.close(writer->fd) != 0 && status == ATTN_OK && errno != EINTR)
        status = attn_fail_errno(writer->ctx, writer->path, "cannot close");
    if (status == ATTN_OK && attn_file_system.rename(writer->temporary, writer->path) != 0)
        status = attn_fail_errno(writer->ctx, writer->path, "cannot rename");
    if (status != ATTN_OK && writer->named) attn_file_system.unlink(writer->temporary);
    if (status == ATTN_OK) status = sync_folder(writer);
    writer_free(writer);
    return status;
}

attn_status attn_file_write(attn_context *ctx, const char *path, const void *data, size_t bytes) {
    attn_writer writer;
    ATTN_TRY(attn_writer_open(&writer, ctx, path));
    attn_writer_put(&writer, data, bytes);
    return attn_writer_close(&writer);
}

static attn_status make_one(attn_context *ctx, const char *path) {
    if (mkdir(path, 0777) == 0) return ATTN_OK;
    int why = errno;
    struct stat info;
    if (stat(path, &info) == 0) {
        if (S_ISDIR(info.st_mode)) return ATTN_OK;
        return attn_fail(ctx, ATTN_E_IO, "%s: expected a folder, found a file", path);
    }
    errno = why;
    return attn_fail_errno(ctx, path, "cannot make the folder");
}

attn_status attn_folder_make(attn_context *ctx, const char *path) {
    if (!*path) return attn_fail(ctx, ATTN_E_ARGUMENT, "the name of the folder is empty");
    char *copy = attn_copy_text(ctx, path, strlen(path));
    if (!copy) return ATTN_E_NOMEM;
    attn_status status = ATTN_OK;
    for (char *at = copy + 1; *at && status == ATTN_OK; at++) {
        if (*at != '/' || at[-1] == '/') continue;
        *at = 0;
        status = make_one(ctx, copy);
        *at = '/';
    }
    if (status == ATTN_OK) status = make_one(ctx, copy);
    attn_release(ctx, copy);
    return status;
}

/* ---- one process at a time ------------------------------------------------------------------------------ */

attn_status attn_folder_lock(int *lock, attn_context *ctx, const char *path) {
    *lock = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*lock < 0) return attn_fail_errno(ctx, path, "opening");
    if (flock(*lock, LOCK_EX | LOCK_NB) == 0) return ATTN_OK;
    int error = errno;
    close(*lock);
    *lock = -1;
    if (error == EWOULDBLOCK) return attn_fail(ctx, ATTN_E_IO, "%s: another process is using this folder", path);
    if (error == ENOLCK || error == EOPNOTSUPP || error == ENOSYS) return ATTN_OK; /* a file system without locks */
    errno = error;
    return attn_fail_errno(ctx, path, "locking");
}

void attn_folder_unlock(int lock) {
    if (lock >= 0) close(lock);
}

attn_status attn_map_file(attn_mapping *mapping, attn_context *ctx, const char *path) {
    *mapping = (attn_mapping){NULL, 0};
    int fd;
    do fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe without a writer must not hang us */
    while (fd < 0 && errno == EINTR);
    if (fd < 0) return attn_fail_errno(ctx, path, "cannot open");
    attn_status status = ATTN_OK;
    struct stat info;
    if (fstat(fd, &info) != 0) status = attn_fail_errno(ctx, path, "cannot read");
    else if (!S_ISREG(info.st_mode)) status = attn_fail(ctx, ATTN_E_IO, "%s: expected a file", path);
    else if ((uintmax_t)info.st_size > SIZE_MAX) status = attn_fail(ctx, ATTN_E_NOMEM, "%s: too large", path);
    else if (info.st_size > 0) {
        void *data = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED) status = attn_fail_errno(ctx, path, "cannot map");
        else *mapping = (attn_mapping){data, (size_t)info.st_size};
    }
    close(fd);
    return status;
}

void attn_unmap_file(attn_mapping *mapping) {
    if (mapping->data) munmap((void *)(uintptr_t)mapping->data, mapping->bytes);
    *mapping = (attn_mapping){NULL, 0};
}
