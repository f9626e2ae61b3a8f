// SPDX-License-Identifier: MIT

//! Finding pools beside a module that is played.
