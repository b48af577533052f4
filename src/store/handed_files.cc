// The file calls that SQLite makes (sqlite.org/c3ref/vfs.html, io_methods.html), on three open
// descriptors. A file that SQLite removes becomes empty, and an empty one is not there: so a WAL
// or a journal that a killed process has left is found by the next one that is handed the same
// three.
//
// There are no locks: the parent holds one on the open file for all of us, and the connection is
// in exclusive mode. That also spares the shared memory beside a WAL, which would be a fourth file.
#include "store/handed_files.h"

#include <atomic>
#include <cerrno>
#include <cstring>
#include <sqlite3.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

namespace vmhost::store {

namespace {

// SQLite allocates szOsFile bytes and hands them around by their first member.
struct File {
    sqlite3_file base;
    int fd;
};

int fd_of(sqlite3_file* file) {
    return reinterpret_cast<File*>(file)->fd;
}

int read_at(sqlite3_file* file, void* buffer, int bytes, sqlite3_int64 offset) {
    auto* to = static_cast<std::uint8_t*>(buffer);
    auto left = static_cast<std::size_t>(bytes);
    while (left > 0) {
        auto got = ::pread(fd_of(file), to, left, offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return SQLITE_IOERR_READ;
        if (got == 0) { // SQLite wants the rest as zeros
            std::memset(to, 0, left);
            return SQLITE_IOERR_SHORT_READ;
        }
        to += got;
        left -= static_cast<std::size_t>(got);
        offset += got;
    }
    return SQLITE_OK;
}

int write_at(sqlite3_file* file, const void* buffer, int bytes, sqlite3_int64 offset) {
    const auto* from = static_cast<const std::uint8_t*>(buffer);
    auto left = static_cast<std::size_t>(bytes);
    while (left > 0) {
        auto put = ::pwrite(fd_of(file), from, left, offset);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return errno == ENOSPC || errno == EDQUOT ? SQLITE_FULL : SQLITE_IOERR_WRITE;
        from += put;
        left -= static_cast<std::size_t>(put);
        offset += put;
    }
    return SQLITE_OK;
}

int truncate(sqlite3_file* file, sqlite3_int64 bytes) {
    return ::ftruncate(fd_of(file), bytes) == 0 ? SQLITE_OK : SQLITE_IOERR_TRUNCATE;
}

int sync(sqlite3_file* file, int) {
    return ::fdatasync(fd_of(file)) == 0 ? SQLITE_OK : SQLITE_IOERR_FSYNC;
}

int file_size(sqlite3_file* file, sqlite3_int64* bytes) {
    struct stat there {};
    if (::fstat(fd_of(file), &there) < 0)
        return SQLITE_IOERR_FSTAT;
    *bytes = there.st_size;
    return SQLITE_OK;
}

constexpr int page_bytes = 4096;

const sqlite3_io_methods methods = {
    .iVersion = 1,
    .xClose = [](sqlite3_file*) { return SQLITE_OK; }, // the descriptors stay ours
    .xRead = read_at,
    .xWrite = write_at,
    .xTruncate = truncate,
    .xSync = sync,
    .xFileSize = file_size,
    .xLock = [](sqlite3_file*, int) { return SQLITE_OK; },
    .xUnlock = [](sqlite3_file*, int) { return SQLITE_OK; },
    .xCheckReservedLock =
        [](sqlite3_file*, int* reserved) {
            *reserved = 0;
            return SQLITE_OK;
        },
    .xFileControl = [](sqlite3_file*, int, void*) { return SQLITE_NOTFOUND; },
    .xSectorSize = [](sqlite3_file*) { return page_bytes; },
    // As SQLite assumes of any disk: a write leaves the bytes around it alone.
    .xDeviceCharacteristics = [](sqlite3_file*) { return SQLITE_IOCAP_POWERSAFE_OVERWRITE; },
    .xShmMap = nullptr,
    .xShmLock = nullptr,
    .xShmBarrier = nullptr,
    .xShmUnmap = nullptr,
    .xFetch = nullptr,
    .xUnfetch = nullptr,
};

HandedFiles& self(sqlite3_vfs* vfs) {
    return *static_cast<HandedFiles*>(vfs->pAppData);
}

int open_file(sqlite3_vfs* vfs, const char* name, sqlite3_file* file, int flags, int* out_flags) {
    auto* opened = reinterpret_cast<File*>(file);
    opened->base.pMethods = nullptr;
    if (name == nullptr) // a temporary file: there is no place for one
        return SQLITE_CANTOPEN;
    opened->fd = self(vfs).fd_of(name);
    opened->base.pMethods = &methods;
    if (out_flags != nullptr)
        *out_flags = flags;
    return SQLITE_OK;
}

int remove_file(sqlite3_vfs* vfs, const char* name, int) {
    return ::ftruncate(self(vfs).fd_of(name), 0) == 0 ? SQLITE_OK : SQLITE_IOERR_DELETE;
}

int look_for(sqlite3_vfs* vfs, const char* name, int, int* there) {
    struct stat file {};
    *there = ::fstat(self(vfs).fd_of(name), &file) == 0 && file.st_size > 0;
    return SQLITE_OK;
}

int full_name(sqlite3_vfs*, const char* name, int bytes, char* out) {
    sqlite3_snprintf(bytes, out, "%s", name);
    return SQLITE_OK;
}

int random_bytes(sqlite3_vfs*, int bytes, char* out) {
    auto got = ::getrandom(out, static_cast<std::size_t>(bytes), 0);
    return got < 0 ? 0 : static_cast<int>(got);
}

} // namespace

struct HandedFiles::Vfs : sqlite3_vfs {};

HandedFiles::HandedFiles(LeaseFiles files) : files_(std::move(files)) {
    static std::atomic<unsigned> number{0};
    name_ = fmt::format("vmhost-{}", ++number);
}

Result<std::unique_ptr<HandedFiles>> HandedFiles::make(LeaseFiles files) {
    // Clock and pauses are the usual ones.
    const auto* usual = sqlite3_vfs_find(nullptr);
    if (usual == nullptr)
        return fail(ErrorKind::internal, "SQLite does not work");
    std::unique_ptr<HandedFiles> made(new HandedFiles(std::move(files)));
    made->vfs_ = std::make_unique<Vfs>();
    auto& vfs = *made->vfs_;
    static_cast<sqlite3_vfs&>(vfs) = *usual;
    vfs.pNext = nullptr;
    vfs.zName = made->name_.c_str();
    vfs.pAppData = made.get();
    vfs.szOsFile = sizeof(File);
    vfs.xOpen = open_file;
    vfs.xDelete = remove_file;
    vfs.xAccess = look_for;
    vfs.xFullPathname = full_name;
    vfs.xRandomness = random_bytes;
    if (sqlite3_vfs_register(&vfs, 0) != SQLITE_OK)
        return fail(ErrorKind::internal, "SQLite does not take our files");
    return made;
}

HandedFiles::~HandedFiles() {
    sqlite3_vfs_unregister(vfs_.get());
}

int HandedFiles::fd_of(std::string_view path) const {
    if (path.ends_with("-wal"))
        return files_.wal.get();
    if (path.ends_with("-journal"))
        return files_.journal.get();
    return files_.database.get();
}

} // namespace vmhost::store
