// vm.conf(5) as OpenBSD's manual page describes it, into what it says (conf.h).
#pragma once

#include "config/vmconf/conf.h"
#include "config/vmconf/lexer.h"

namespace vmhost::config::vmconf {

// All complaints are collected: each names file and line, and reading goes on behind the statement
// or option that is wrong. What is legal and has no meaning adds to warnings.
std::expected<Conf, Complaints> parse(const std::string& path, const ImportOptions& options,
                                      std::vector<Error>& warnings);

} // namespace vmhost::config::vmconf
