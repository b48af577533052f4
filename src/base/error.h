// Results instead of exceptions across the doors of rooms.
//
// An Error says what failed and on which object, carries the place in the
// configuration when one is to blame, and has a kind that names what the caller
// can do about it. Exceptions of libraries are converted where they are called.
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <utility>

#include <fmt/format.h>

namespace vmhost {

enum class ErrorKind : std::uint8_t {
    invalid,     // the input is wrong: mend it and try again
    not_found,   // the object does not exist
    exists,      // the object exists already and is not ours to replace
    busy,        // in use by somebody else: try later or name another
    denied,      // the caller may not
    unsupported, // this host or this build cannot
    limit,       // a limit of base/limits.h or of the host was hit
    corrupt,     // data that we wrote or were given is damaged
    io,          // the operating system refused for another reason
    internal,    // a promise inside vmhost was broken
};

// The word for a kind, as used in --json output: "not_found".
std::string_view name_of(ErrorKind kind);

// A place in a text file, 1-based; line 0 = no place.
struct Place {
    std::string file;
    std::uint32_t line = 0;
    std::uint32_t column = 0;
    bool operator==(const Place&) const = default;
};

class [[nodiscard]] Error {
public:
    Error(ErrorKind kind, std::string text) : kind_(kind), text_(std::move(text)) {}

    // From errno: "TEXT: No such file or directory"; the kind follows the number.
    static Error system(int error_number, std::string text);

    Error at(Place place) && {
        place_ = std::move(place);
        return std::move(*this);
    }
    // Puts the object in front: "vm \"a\": TEXT".
    Error in(std::string_view context) && {
        text_ = std::string(context) + ": " + text_;
        return std::move(*this);
    }

    ErrorKind kind() const { return kind_; }
    const std::string& text() const { return text_; }
    const Place& place() const { return place_; }
    // One line: "file:line:column: text", or the text alone.
    std::string message() const;

private:
    ErrorKind kind_;
    std::string text_;
    Place place_;
};

template <class T>
using Result = std::expected<T, Error>;

// fail(ErrorKind::invalid, "…{}…", x) is what a function returning any Result returns.
template <class... Args>
std::unexpected<Error> fail(ErrorKind kind, fmt::format_string<Args...> format, Args&&... args) {
    return std::unexpected(Error(kind, fmt::format(format, std::forward<Args>(args)...)));
}

template <class... Args>
std::unexpected<Error> fail_errno(int error_number, fmt::format_string<Args...> format,
                                  Args&&... args) {
    return std::unexpected(
        Error::system(error_number, fmt::format(format, std::forward<Args>(args)...)));
}

} // namespace vmhost

// Value of a Result, or return its error from the calling function.
#define TRY(expression)                                                                            \
    ({                                                                                             \
        auto try_result_ = (expression);                                                           \
        if (!try_result_)                                                                          \
            return std::unexpected(std::move(try_result_).error());                                \
        *std::move(try_result_);                                                                   \
    })
