#include "base/error.h"

#include <cerrno>
#include <cstring>

namespace vmhost {

std::string_view name_of(ErrorKind kind) {
    switch (kind) {
    case ErrorKind::invalid:
        return "invalid";
    case ErrorKind::not_found:
        return "not_found";
    case ErrorKind::exists:
        return "exists";
    case ErrorKind::busy:
        return "busy";
    case ErrorKind::denied:
        return "denied";
    case ErrorKind::unsupported:
        return "unsupported";
    case ErrorKind::limit:
        return "limit";
    case ErrorKind::corrupt:
        return "corrupt";
    case ErrorKind::io:
        return "io";
    case ErrorKind::internal:
        return "internal";
    }
    return "internal";
}

namespace {

ErrorKind kind_of_errno(int error_number) {
    switch (error_number) {
    case ENOENT:
    case ENODEV:
    case ENXIO:
    case ESRCH:
        return ErrorKind::not_found;
    case EEXIST:
        return ErrorKind::exists;
    case EBUSY:
    case EADDRINUSE:
    case ETXTBSY:
        return ErrorKind::busy;
    case EACCES:
    case EPERM:
        return ErrorKind::denied;
    case ENOSYS:
    case EOPNOTSUPP:
    case EAFNOSUPPORT:
        return ErrorKind::unsupported;
    case EMFILE:
    case ENFILE:
    case ENOMEM:
    case ENOSPC:
    case EDQUOT:
        return ErrorKind::limit;
    case EINVAL:
    case ENAMETOOLONG:
        return ErrorKind::invalid;
    default:
        return ErrorKind::io;
    }
}

} // namespace

Error Error::system(int error_number, std::string text) {
    text += ": ";
    text += std::strerror(error_number);
    return Error(kind_of_errno(error_number), std::move(text));
}

std::string Error::message() const {
    if (place_.line == 0)
        return place_.file.empty() ? text_ : fmt::format("{}: {}", place_.file, text_);
    if (place_.column == 0)
        return fmt::format("{}:{}: {}", place_.file, place_.line, text_);
    return fmt::format("{}:{}:{}: {}", place_.file, place_.line, place_.column, text_);
}

} // namespace vmhost
