/* LPL's value and gradient as a plain C program would compute them: class by class, each with its
   own number of steps. A floor for the benchmarks, not a part of the library. */

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* softmax of u + delta into p, with p[c] set to 0. Returns the sum of all others; *p_c gets p[c]. */
static float softmax_of_others(int classes, int c, const float *u, const float *delta, float *p,
                               float *p_c) {
    float largest = -INFINITY, others = 0;
    for (int j = 0; j < classes; j++) {
        p[j] = u[j] + delta[j];
        largest = fmaxf(largest, p[j]);
    }
    for (int j = 0; j < classes; j++) p[j] = expf(p[j] - largest);
    float of_c = p[c];
    p[c] = 0;
    for (int j = 0; j < classes; j++) others += p[j];
    float scale = 1 / (others + of_c);
    for (int j = 0; j < classes; j++) p[j] *= scale;
    *p_c = of_c * scale;
    return others * scale;
}

/* Mean loss of `batch` samples; its gradient by the logits goes to `gradient`. */
float lpl(int batch, int classes, const int *labels, const float *logits, const float *direction,
          const int *num_steps, float step_size, float *gradient) {
    int *start = calloc(classes + 1, sizeof(int)), *order = malloc(batch * sizeof(int));
    float *delta = malloc(3 * classes * sizeof(float)), *mean = delta + classes,
          *p = mean + classes, p_c, loss = 0;
    for (int i = 0; i < batch; i++) start[labels[i] + 1]++;
    for (int c = 0; c < classes; c++) start[c + 1] += start[c];
    for (int i = batch - 1; i >= 0; i--) order[--start[labels[i] + 1]] = i;
    /* Now class c has the samples order[start[c + 1]] and on, up to start[c + 2]. */
    for (int c = 0; c < classes; c++) {
        int from = start[c + 1], to = c + 2 <= classes ? start[c + 2] : batch;
        if (from == to) continue;
        memset(delta, 0, classes * sizeof(float));
        for (int k = 0; k < num_steps[c]; k++) {
            float total = 0, square = 0;
            memset(mean, 0, classes * sizeof(float));
            for (int i = from; i < to; i++) {
                total += softmax_of_others(classes, c, logits + order[i] * classes, delta, p, &p_c);
                for (int j = 0; j < classes; j++) mean[j] += p[j];
            }
            mean[c] = -total; /* the sum, not the mean: a step has unit length anyway */
            for (int j = 0; j < classes; j++) square += mean[j] * mean[j];
            float rate = direction[c] * step_size / sqrtf(square);
            for (int j = 0; j < classes; j++) delta[j] += rate * mean[j];
        }
        for (int i = from; i < to; i++) {
            float *out = gradient + order[i] * classes;
            float others =
                softmax_of_others(classes, c, logits + order[i] * classes, delta, p, &p_c);
            for (int j = 0; j < classes; j++) out[j] = p[j] / batch;
            out[c] = -others / batch;
            loss -= logf(p_c);
        }
    }
    free(start), free(order), free(delta);
    return loss / batch;
}
