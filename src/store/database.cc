// SQLite, version 3 of its file format, in WAL mode: a reader (vmhost audit) does not hold up the
// daemon, and a commit is one append. synchronous=NORMAL then leaves a commit to the kernel, which
// a killed process does not lose; a durable transaction waits for the disk.
//
// The file is ours alone, but nothing relies on that: it is looked at before SQLite opens it,
// checked as a whole, and opened so that no content of it can make SQLite do more than read and
// write rows (DEFENSIVE, no trusted schema, no extensions).
#include "store/database.h"

#include <cerrno>
#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <unistd.h>

namespace vmhost::store {

namespace {

// Longer than anybody holds the file; the daemon's loop stands still meanwhile.
constexpr int busy_timeout_ms = 1000;

ErrorKind kind_of(int code) {
    switch (code & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return ErrorKind::busy;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return ErrorKind::corrupt;
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
    case SQLITE_CANTOPEN:
        return ErrorKind::denied;
    case SQLITE_FULL:
    case SQLITE_IOERR:
    case SQLITE_NOMEM:
        return ErrorKind::io;
    default:
        return ErrorKind::internal;
    }
}

std::string_view advice_for(ErrorKind kind) {
    switch (kind) {
    case ErrorKind::busy:
        return ": another program holds it";
    case ErrorKind::corrupt:
        return ": put a copy back, or move it away, which gives ids and addresses anew";
    default:
        return "";
    }
}

std::unexpected<Error> missing(const std::string& path, int error_number) {
    auto kind = error_number == ENOENT || error_number == ENOTDIR ? ErrorKind::not_found
                : error_number == EACCES || error_number == EPERM || error_number == EROFS
                    ? ErrorKind::denied
                    : ErrorKind::io;
    return fail(kind, "{}: {}", printable(path), std::strerror(error_number));
}

// Makes it, empty and private, or sees that it can be trusted. Not through a descriptor: to close
// one would give up the locks of whoever has it open in this process.
Result<void> look_at_file(const std::string& path, bool make) {
    struct stat there {};
    if (::lstat(path.c_str(), &there) < 0) {
        if (errno != ENOENT || !make)
            return missing(path, errno);
        Fd made(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
        return made ? Result<void>() : missing(path, errno);
    }
    if (!S_ISREG(there.st_mode))
        return fail(ErrorKind::invalid, "{}: is no regular file", printable(path));
    if (there.st_uid != ::geteuid())
        return fail(::geteuid() == 0 ? ErrorKind::invalid : ErrorKind::denied,
                    "{}: belongs to uid {}, not to uid {}", printable(path), there.st_uid,
                    ::geteuid());
    if ((there.st_mode & 022) != 0)
        return fail(ErrorKind::invalid,
                    "{}: others may write to it, mode {:o}: what it says "
                    "cannot be relied on",
                    printable(path), there.st_mode & 0777);
    return {};
}

} // namespace

// ---- rows -----------------------------------------------------------------

Rows::~Rows() {
    if (statement_ != nullptr) {
        sqlite3_reset(statement_);
        sqlite3_clear_bindings(statement_);
    }
}

Result<bool> Rows::next() {
    switch (sqlite3_step(statement_)) {
    case SQLITE_ROW:
        return true;
    case SQLITE_DONE:
        return false;
    default:
        return std::unexpected(database_->failure(sqlite3_sql(statement_)));
    }
}

std::int64_t Rows::integer(int column) const {
    return sqlite3_column_int64(statement_, column);
}

std::string Rows::text(int column) const {
    const auto* bytes = sqlite3_column_text(statement_, column);
    return bytes == nullptr
               ? std::string()
               : std::string(reinterpret_cast<const char*>(bytes),
                             static_cast<std::size_t>(sqlite3_column_bytes(statement_, column)));
}

bool Rows::is_null(int column) const {
    return sqlite3_column_type(statement_, column) == SQLITE_NULL;
}

// ---- database -------------------------------------------------------------

Result<std::unique_ptr<Database>> Database::open(const std::string& path, Access access,
                                                 const Schema& schema) {
    if (access != Access::memory)
        TRY(look_at_file(path, access == Access::make));
    std::unique_ptr<Database> database(new Database(path));
    TRY(database->connect(access));
    TRY(database->set_up(access, schema));
    return database;
}

Result<std::unique_ptr<Database>>
Database::open_handed(const std::string& name, const std::string& vfs, const Schema& schema) {
    std::unique_ptr<Database> database(new Database(name));
    TRY(database->connect(Access::handed, vfs.c_str()));
    TRY(database->set_up(Access::handed, schema));
    return database;
}

Database::~Database() {
    for (const auto& [sql, statement] : statements_)
        sqlite3_finalize(statement);
    sqlite3_close(handle_);
}

Result<void> Database::connect(Access access, const char* vfs) {
    int flags = SQLITE_OPEN_NOMUTEX;
    flags |= access == Access::look ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE;
    if (access == Access::memory)
        flags |= SQLITE_OPEN_MEMORY | SQLITE_OPEN_CREATE;
    if (sqlite3_open_v2(path_.c_str(), &handle_, flags, vfs) != SQLITE_OK)
        return std::unexpected(failure("open it"));
    sqlite3_busy_timeout(handle_, busy_timeout_ms);
    sqlite3_db_config(handle_, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
    sqlite3_db_config(handle_, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
    return {};
}

Result<void> Database::set_up(Access access, const Schema& schema) {
    TRY(execute("PRAGMA cell_size_check = ON"));
    TRY(execute("PRAGMA temp_store = MEMORY"));
    // Before the first read: then a WAL needs no shared memory.
    if (access == Access::handed)
        TRY(execute("PRAGMA locking_mode = EXCLUSIVE"));
    auto version = TRY(number_of("PRAGMA user_version"));
    auto id = TRY(number_of("PRAGMA application_id"));
    auto tables = TRY(number_of("SELECT count(*) FROM sqlite_master"));
    if (id != schema.application_id && (id != 0 || tables != 0))
        return fail(ErrorKind::corrupt, "{}: is a SQLite file, but none of vmhost's",
                    printable(path_));
    auto newest = static_cast<std::int64_t>(schema.steps.size());
    if (version > newest)
        return fail(ErrorKind::unsupported,
                    "{}: is of version {}, written by a newer vmhost; this one knows {}",
                    printable(path_), version, newest);
    if (access == Access::look) {
        if (version < newest)
            return fail(ErrorKind::unsupported,
                        "{}: is of version {}; \"vmhost run\" makes it version {}",
                        printable(path_), version, newest);
        return {};
    }
    {
        auto checked = TRY(query("PRAGMA quick_check(1)"));
        if (!TRY(checked.next()) || checked.text(0) != "ok")
            return fail(ErrorKind::corrupt, "{}: is damaged: {}{}", printable(path_),
                        printable(checked.text(0), 200), advice_for(ErrorKind::corrupt));
    }
    // A filesystem without shared memory keeps another mode, which is as safe.
    TRY(execute("PRAGMA journal_mode = WAL"));
    TRY(execute("PRAGMA synchronous = NORMAL"));
    TRY(execute("PRAGMA foreign_keys = ON"));
    return version == newest ? Result<void>() : migrate(schema, version);
}

// All steps or none; nobody else can be at it at the same time.
Result<void> Database::migrate(const Schema& schema, std::int64_t version) {
    auto transaction = TRY(Transaction::begin(*this, true));
    version = TRY(number_of("PRAGMA user_version")); // somebody may have been faster
    for (auto next = static_cast<std::size_t>(version); next < schema.steps.size(); ++next)
        TRY(execute(schema.steps[next]));
    // Pragmas take no bound values; these are numbers of ours.
    TRY(execute(fmt::format("PRAGMA user_version = {}", schema.steps.size()).c_str()));
    TRY(execute(fmt::format("PRAGMA application_id = {}", schema.application_id).c_str()));
    return transaction.commit();
}

Error Database::failure(std::string_view doing) const {
    auto code = sqlite3_extended_errcode(handle_);
    auto kind = kind_of(code);
    std::string text = sqlite3_errmsg(handle_);
    if ((code & 0xff) == SQLITE_IOERR || (code & 0xff) == SQLITE_CANTOPEN)
        if (int number = sqlite3_system_errno(handle_); number != 0)
            text += fmt::format(": {}", std::strerror(number));
    return Error(kind, fmt::format("{}: {}{} ({})", printable(path_), text, advice_for(kind),
                                   printable(doing, 60)));
}

Result<void> Database::execute(const char* sql) {
    if (sqlite3_exec(handle_, sql, nullptr, nullptr, nullptr) != SQLITE_OK)
        return std::unexpected(failure(sql));
    return {};
}

Result<std::int64_t> Database::number_of(const char* sql) {
    auto rows = TRY(query(sql));
    return TRY(rows.next()) ? rows.integer(0) : 0;
}

Result<sqlite3_stmt*> Database::prepare(const char* sql) {
    auto [found, fresh] = statements_.try_emplace(sql, nullptr);
    if (fresh && sqlite3_prepare_v3(handle_, sql, -1, SQLITE_PREPARE_PERSISTENT, &found->second,
                                    nullptr) != SQLITE_OK) {
        statements_.erase(found);
        return std::unexpected(failure(sql));
    }
    return found->second;
}

bool Database::bind(sqlite3_stmt* statement, int index, std::int64_t value) {
    return sqlite3_bind_int64(statement, index, value) == SQLITE_OK;
}

bool Database::bind(sqlite3_stmt* statement, int index, std::string_view value) {
    // No pointer would be NULL, which is no text.
    return sqlite3_bind_text64(statement, index, value.data() ? value.data() : "", value.size(),
                               SQLITE_TRANSIENT, SQLITE_UTF8) == SQLITE_OK;
}

bool Database::bind(sqlite3_stmt* statement, int index, std::nullopt_t) {
    return sqlite3_bind_null(statement, index) == SQLITE_OK;
}

std::int64_t Database::last_number() const {
    return sqlite3_last_insert_rowid(handle_);
}

unsigned Database::changed() const {
    return static_cast<unsigned>(sqlite3_changes(handle_));
}

// ---- transaction ----------------------------------------------------------

Result<Database::Transaction> Database::Transaction::begin(Database& database, bool durable) {
    if (durable)
        TRY(database.execute("PRAGMA synchronous = FULL"));
    Transaction transaction(database, durable); // sets it back when the next line fails
    TRY(database.execute("BEGIN IMMEDIATE"));
    return transaction;
}

Database::Transaction::~Transaction() {
    end();
}

void Database::Transaction::end() {
    if (database_ == nullptr)
        return;
    if (sqlite3_get_autocommit(database_->handle_) == 0)
        (void)database_->execute("ROLLBACK"); // also one that SQLite has undone already
    if (durable_)
        (void)database_->execute("PRAGMA synchronous = NORMAL");
    database_ = nullptr;
}

Result<void> Database::Transaction::commit() {
    auto committed = database_->execute("COMMIT");
    end();
    return committed;
}

} // namespace vmhost::store
