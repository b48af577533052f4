// The door of install/: answer files for the OpenBSD installer, written from the
// configuration and checked as the installer reads them (autoinstall(8)).
//
// The installer asks its questions in a fixed order. For each it takes the first
// line of the file whose key stands in the question (at its start or after a
// blank, before a blank, a '?' or its end), and removes the line. A line that no
// question takes does nothing, silently; a question that takes the wrong line
// ruins the installation minutes later. So the order of the questions is known
// here as data, and both writing and checking are done by playing them through.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "config/model.h"
#include "install/files.h"
#include "install/host_key.h"
#include "install/password.h"
#include "install/progress.h"
#include "install/site_set.h"
#include "install/values.h"
#include "install/way.h"

namespace vmhost::install {

// The answer file of a VM whose `install` is set and names no ready file. The
// operator's own lines come first; what they do not answer is added. For an upgrade
// that is where the sets are: everything else stays as it is on the disk.
Result<std::string> render_answers(const config::Model& model, const config::Vm& vm,
                                   config::InstallMode mode);

// What is wrong with an answer file, in the order of its lines; place().line is
// set where a line is to blame. Empty: every mandatory question of an ordinary
// installation has an answer and every line is taken by the question it is for.
std::vector<Error> lint_answers(std::string_view text);

} // namespace vmhost::install
