// Follows a running job's events; the page is loaded anew when the job has ended.
const live = document.querySelector(".live");
const stream = new EventSource(`/v1/jobs/${live.dataset.job}/events?after=${live.dataset.seen}`);
const ended = new Set(["succeeded", "failed", "cancelled"]);

const lasted = document.getElementById("lasted");
const clock = () => performance.now() / 1000;
let began = lasted.dataset.seconds === "" ? null : clock() - Number(lasted.dataset.seconds);

setInterval(() => {
  if (began === null) return;
  const seconds = Math.round(clock() - began);
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60];
  const two = (number) => String(number).padStart(2, "0");
  if (hours) lasted.textContent = `${hours} h ${two(minutes)} min`;
  else if (minutes) lasted.textContent = `${minutes} min ${two(seconds % 60)} s`;
  else lasted.textContent = `${seconds} s`;
}, 1000);

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
  if (status === "running") began ??= clock();
  if (ended.has(status)) {
    stream.close();
    location.reload();
  }
});
