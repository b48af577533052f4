// Accounts of this host (accounts.cc). No door.
#pragma once

#include <vector>

#include "deploy/world.h"

namespace vmhost::deploy {

Result<std::optional<Account>> find_account(const std::string& name);
Result<bool> find_group(const std::string& group);
// By its primary group or a further one.
Result<bool> find_member(const Account& account, const std::string& group);

// A program of the system, by its arguments and without a shell; io: it failed.
Result<void> run(const std::vector<std::string>& words);

// What passwd(5) can hold of a person's name.
std::string comment_of(std::string_view person);

// All of it, wherever the file stands.
Result<void> write_all(const Fd& file, std::string_view text, const std::string& path);

} // namespace vmhost::deploy
