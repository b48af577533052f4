// A SQLite file behind results: opened with its schema brought up to date, statements prepared
// once, values bound and never part of the text.
//
// sqlite3.h is known to database.cc alone.
#pragma once

#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/base.h"

struct sqlite3;
struct sqlite3_stmt;

namespace vmhost::store {

// What a file is and how it came to be so: step N brings version N to N + 1. A step that was
// released is never changed.
struct Schema {
    std::int32_t application_id = 0;
    std::span<const char* const> steps;
};

class Database;

// The rows of one run of a statement; the next run of the same text waits for this to be gone.
class Rows {
public:
    Rows(Database& database, sqlite3_stmt* statement)
        : database_(&database), statement_(statement) {}
    Rows(Rows&& other) noexcept
        : database_(other.database_), statement_(std::exchange(other.statement_, nullptr)) {}
    Rows& operator=(Rows&&) = delete;
    ~Rows();
    // False: there is no further row.
    Result<bool> next();
    std::int64_t integer(int column) const;
    std::string text(int column) const; // empty for NULL
    bool is_null(int column) const;

private:
    Database* database_;
    sqlite3_stmt* statement_;
};

class Database {
public:
    enum class Access { make, look, memory, handed };
    // path names the file in messages too.
    static Result<std::unique_ptr<Database>> open(const std::string& path, Access access,
                                                  const Schema& schema);
    // On the files behind a VFS that SQLite knows by this name, which are nobody else's.
    static Result<std::unique_ptr<Database>>
    open_handed(const std::string& name, const std::string& vfs, const Schema& schema);
    ~Database();
    Database(const Database&) = delete;
    Database& operator=(const Database&) = delete;

    // sql is a literal. Values: integers, texts, nullopt.
    template <class... Values>
    Result<Rows> query(const char* sql, const Values&... values) {
        auto* statement = TRY(prepare(sql));
        Rows rows(*this, statement);
        int index = 0;
        bool bound = (bind(statement, ++index, values) && ...);
        if (!bound)
            return std::unexpected(failure("bind a value"));
        return rows;
    }
    // The same for what has no rows.
    template <class... Values>
    Result<void> run(const char* sql, const Values&... values) {
        auto rows = TRY(query(sql, values...));
        TRY(rows.next());
        return {};
    }
    std::int64_t last_number() const; // of the row that was inserted last
    unsigned changed() const;         // rows, by the last statement

    // Undone unless it is committed.
    class Transaction {
    public:
        // durable: on the disk when commit() returns, also when the power fails.
        static Result<Transaction> begin(Database& database, bool durable);
        Transaction(Transaction&& other) noexcept
            : database_(std::exchange(other.database_, nullptr)), durable_(other.durable_) {}
        Transaction& operator=(Transaction&&) = delete;
        ~Transaction();
        Result<void> commit();

    private:
        Transaction(Database& database, bool durable) : database_(&database), durable_(durable) {}
        void end();
        Database* database_;
        bool durable_;
    };

    // What SQLite says of its last failure, as ours.
    Error failure(std::string_view doing) const;

private:
    explicit Database(std::string path) : path_(std::move(path)) {}
    Result<void> connect(Access access, const char* vfs = nullptr);
    Result<void> set_up(Access access, const Schema& schema);
    Result<void> migrate(const Schema& schema, std::int64_t version);
    Result<void> execute(const char* sql);
    Result<std::int64_t> number_of(const char* sql);
    Result<sqlite3_stmt*> prepare(const char* sql);
    static bool bind(sqlite3_stmt* statement, int index, std::int64_t value);
    static bool bind(sqlite3_stmt* statement, int index, std::string_view value);
    static bool bind(sqlite3_stmt* statement, int index, std::nullopt_t);
    template <class Value>
    static bool bind(sqlite3_stmt* statement, int index, const std::optional<Value>& value) {
        return value ? bind(statement, index, *value) : bind(statement, index, std::nullopt);
    }
    static bool bind(sqlite3_stmt* statement, int index, std::uint32_t value) {
        return bind(statement, index, static_cast<std::int64_t>(value));
    }
    static bool bind(sqlite3_stmt* statement, int index, bool value) {
        return bind(statement, index, static_cast<std::int64_t>(value));
    }
    static bool bind(sqlite3_stmt* statement, int index, const std::string& value) {
        return bind(statement, index, std::string_view(value));
    }
    static bool bind(sqlite3_stmt* statement, int index, const char* value) {
        return bind(statement, index, std::string_view(value));
    }

    std::string path_;
    sqlite3* handle_ = nullptr;
    std::map<const char*, sqlite3_stmt*> statements_;
};

} // namespace vmhost::store
