// The door of base/: what every other room may rely on. No room here knows of
// virtual machines, networks or files of ours.
#pragma once

#include "base/address.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/limits.h"
#include "base/log.h"
#include "base/random.h"
#include "base/text.h"
#include "base/units.h"
