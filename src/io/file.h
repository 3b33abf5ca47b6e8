/* file.h: writing a file that is whole or not there, piece by piece; system calls that a test may replace.
 *
 *     attn_writer writer;
 *     ATTN_TRY(attn_writer_open(&writer, ctx, path));
 *     attn_writer_put(&writer, data, bytes);           // a failure is kept
 *     return attn_writer_close(&writer);               // path now holds all of it, or what it held before
 */
#ifndef ATTN_IO_FILE_H
#define ATTN_IO_FILE_H

#include "base/base.h"
#include <sys/types.h>

typedef struct attn_file_calls {
    int (*open)(const char *path, int flags, mode_t mode);
    ssize_t (*write)(int fd, const void *data, size_t bytes);
    int (*fsync)(int fd);
    int (*close)(int fd);
    int (*link)(int fd, const char *path); /* gives the open file without a name a name */
    int (*rename)(const char *from, const char *to);
    int (*unlink)(const char *path);
} attn_file_calls;
/* What the writer calls. Only tests of failing disks change it. */
extern attn_file_calls attn_file_system;

typedef struct attn_writer {
    attn_context *ctx;
    char *path, *temporary, *folder;
    int fd;
    bool named; /* temporary exists in the folder */
    attn_status status;
} attn_writer;

/* Starts a file beside path. One writer at a time for a path. On failure nothing is left to close. */
attn_status attn_writer_open(attn_writer *writer, attn_context *ctx, const char *path);
void attn_writer_put(attn_writer *writer, const void *data, size_t bytes);
/* Syncs, puts the file in place of path, syncs the folder. After any failure path holds what it held. */
attn_status attn_writer_close(attn_writer *writer);

/* Claims a folder for this process until attn_folder_unlock or its end; ATTN_E_IO if another has it. The lock is the
 * system's (flock on the folder itself): nothing stays behind after a kill. */
attn_status attn_folder_lock(int *lock, attn_context *ctx, const char *path);
void attn_folder_unlock(int lock); /* −1 is fine */

/* A file mapped read-only; data is NULL for an empty one. Anything but a regular file is refused. */
typedef struct attn_mapping {
    const unsigned char *data;
    size_t bytes;
} attn_mapping;
attn_status attn_map_file(attn_mapping *mapping, attn_context *ctx, const char *path);
void attn_unmap_file(attn_mapping *mapping);

#endif
