//! Work that comes to its end even if nobody waits for it any more.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::Instrument;

/// As long as it is polled it runs in the task of whoever waits; if that is dropped too early it goes on in a task of its own. It is
/// an error only where it panicked. A task from the start would be woken, and then wake the one that waits, for each change. Must not be
/// polled again after its end.
pub struct Whole<T: Send + 'static> {
    /// Until its end.
    work: Option<BoxFuture<'static, thread::Result<T>>>,
    tasks: TaskTracker,
    /// It counts among the tasks from the start.
    _counted: TaskTrackerToken,
}

impl<T: Send + 'static> Whole<T> {
    pub fn new(tasks: &TaskTracker, work: impl Future<Output = T> + Send + 'static) -> Self {
        Self { work: Some(AssertUnwindSafe(work).catch_unwind().boxed()), tasks: tasks.clone(), _counted: tasks.token() }
    }
}

impl<T: Send + 'static> Future for Whole<T> {
    type Output = thread::Result<T>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(work) = &mut self.work else { return Poll::Pending };
        let ended = work.poll_unpin(context);
        if ended.is_ready() {
            self.work = None;
        }
        ended
    }
}

impl<T: Send + 'static> Drop for Whole<T> {
    fn drop(&mut self) {
        // Without a runtime the process is at its end.
        if let Some(work) = self.work.take()
            && let Ok(runtime) = Handle::try_current()
        {
            self.tasks.spawn_on(work.in_current_span(), &runtime);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn what_is_given_up_still_comes_to_its_end_and_is_waited_for() {
        let tasks = TaskTracker::new();
        let (begin, begun) = oneshot::channel();
        let (end, ended) = oneshot::channel();
        let mut whole = Whole::new(&tasks, async move {
            begun.await.unwrap();
            end.send(()).unwrap();
        });
        assert!((&mut whole).now_or_never().is_none());
        drop(whole);
        tasks.close();
        assert!(tasks.wait().now_or_never().is_none());
        begin.send(()).unwrap();
        tasks.wait().await;
        ended.await.unwrap();
    }

    #[tokio::test]
    async fn what_is_waited_for_counts_as_a_task_until_it_is_dropped() {
        let tasks = TaskTracker::new();
        tasks.close();
        let mut whole = Whole::new(&tasks, async { 7 });
        assert_eq!(tasks.len(), 1);
        assert_eq!((&mut whole).await.unwrap(), 7);
        drop(whole);
        assert!(tasks.is_empty());
    }

    #[tokio::test]
    async fn a_panic_is_told_and_goes_no_further() {
        let tasks = TaskTracker::new();
        let whole = Whole::<()>::new(&tasks, async { panic!("on purpose") });
        assert!(whole.await.is_err());
        assert!(tasks.is_empty());
    }
}
