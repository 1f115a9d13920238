#ifndef TRIAL_MUTEX_H
#define TRIAL_MUTEX_H

/// Named by the trial, so that this file is linked into it.
void cm_trial_mutex(void);

/// A data race when two threads call it: shows that ThreadSanitizer is awake.
int cm_trial_race(void);

#endif
