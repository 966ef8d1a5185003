// Follows a running job's events; the page is loaded anew when the job has ended.
const live = document.querySelector(".live");
const stream = new EventSource(`/v1/jobs/${live.dataset.job}/events?after=${live.dataset.seen}`);
const ended = new Set(["succeeded", "failed", "cancelled"]);

const tell = (text) => {
  const line = document.createElement("li");
  line.textContent = text;
  document.getElementById("story").append(line);
};

stream.addEventListener("progress", (message) => {
  const { step, done, total } = JSON.parse(message.data).data;
  document.getElementById("step").textContent = step;
  document.getElementById("count").textContent = total > 1 ? `${done} of ${total}` : "";
  const bar = document.getElementById("bar");
  bar.max = Math.max(total, 1);
  bar.value = done;
});

stream.addEventListener("log", (message) => tell(JSON.parse(message.data).data.text));

stream.addEventListener("status", (message) => {
  const { status } = JSON.parse(message.data).data;
  const chip = document.querySelector(".under .chip");
  chip.className = `chip ${status}`;
  chip.textContent = status;
  tell(status);
  if (ended.has(status)) {
    stream.close();
    location.reload();
  }
});
