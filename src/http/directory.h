// What is beneath a directory (http/ only).
#pragma once

#include <sys/stat.h>

#include "http/message.h"

namespace vmhost::http {

struct Opened {
    Fd fd; // to read from; of a directory that may only be searched, to open files beneath
    struct stat status {}; // of a regular file or of a directory
};

// name: of components without ".." and without a slash in front; empty: the directory itself.
// not_found also for what a link leads to outside, and for a component that is no directory;
// denied for what this process may not read, and for what is neither file nor directory.
Result<Opened> open_beneath(const Fd& directory, std::string_view name);

// The line of a file in such a list as the next function makes.
std::string list_line(std::string_view name, const struct stat& status);

// The regular files and directories in it, a line each as of `ls -lT`, which is what OpenBSD's
// installer looks for sets in: the last word of a line is the name. Without names that begin with
// a dot, hold a blank or would break the line. limit when it has more than
// limits::max_http_listed_files, listed or not; denied when it may only be searched.
Result<std::string> list_directory(const Fd& readable_directory);

} // namespace vmhost::http
